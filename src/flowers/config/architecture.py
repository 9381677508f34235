"""The constants of ResNet50 that parameters are checked against; model/resnet.py describes the network."""

RESIDUAL_BLOCKS = 16
CONV5_BLOCKS = 3  # of the last stage, conv5
STRIDE = 32  # between the input and the last stage: an input size is a multiple of it
INPUT_SIZE = 224  # default side of an input image in pixels; model.input_size sets another one
