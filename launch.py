import sys

from neuralmon.cli import main

sys.exit(main(sys.argv))
