"""The operations below and beside a whole convolution: their inputs, and how these are made smaller."""
