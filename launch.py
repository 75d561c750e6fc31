from neuralmon.cli import console

if __name__ == "__main__":  # processes that read data import this file again
    console()
