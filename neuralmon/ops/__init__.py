"""Single operations: each one's plain definition beside a form that is fast on CPU.

    nn.Conv(32, (3, 3), conv_general_dilated=ops.conv_general_dilated)
    ops.max_pool(inputs, (2, 2), strides=(2, 2))

Same arguments, same values as `jax.lax` and `flax.linen`; nothing here imports anything but JAX and Flax.
"""

from neuralmon.ops.attention import attention as attention
from neuralmon.ops.attention import attention_weights as attention_weights
from neuralmon.ops.batch_norm import moments as moments
from neuralmon.ops.batch_norm import normalise as normalise
from neuralmon.ops.convolution import conv_general_dilated as conv_general_dilated
from neuralmon.ops.dot_general import dot_general as dot_general
from neuralmon.ops.lstm import lstm as lstm
from neuralmon.ops.native import native_status as native_status
from neuralmon.ops.pooling import avg_pool as avg_pool
from neuralmon.ops.pooling import max_pool as max_pool
from neuralmon.ops.reference import reference as reference
