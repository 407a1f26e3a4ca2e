/* A convolution that keeps its input as HOSVD factors: what a port to a small device has to compute.
 *
 * C99, float32 throughout, no allocation, nothing but the standard library. A function that returns text could not do
 * its work and says why; NULL means that it did. */
#ifndef LAYER_H
#define LAYER_H

#include <stddef.h>

#ifndef LAYER_NUMBERS
#define LAYER_NUMBERS 65536 /* how many numbers the largest array may hold, those between the steps included */
#endif
#define LAYER_AXES 8

typedef struct {
    int axes;
    int shape[LAYER_AXES];
    float *numbers; /* the last axis runs fastest */
} Tensor;

/* Of each pair the first is the height's. */
typedef struct {
    int stride[2];
    int before[2]; /* top, left */
    int after[2];  /* bottom, right */
    int dilation[2];
    int groups;
} Geometry;

size_t tensor_size(const Tensor *tensor);

/* The smallest k >= 1 that keeps the explained variance of the energy, the sum of the squares. */
int explained_variance_rank(const float *singular_values, int count, double explained_variance);

/* One axis as rows; the others, in their order, as columns. */
void unfold(const Tensor *tensor, int mode, float *matrix);

/* core and factors bring memory for as many numbers as the tensor has, and for the square of each axis. */
const char *hosvd(const Tensor *tensor, double explained_variance, Tensor *core, Tensor *factors);
const char *reconstruct(const Tensor *core, const Tensor *factors, Tensor *tensor);

/* From the factors of the input alone; grad_weight brings its shape. */
const char *weight_gradient(const Tensor *core, const Tensor *factors, const Tensor *grad_output,
                            const Geometry *geometry, Tensor *grad_weight);

/* output and grad_input bring their shapes. */
void forward(const Tensor *x, const Tensor *weight, const Tensor *bias, const Geometry *geometry, Tensor *output);
void input_gradient(const Tensor *grad_output, const Tensor *weight, const Geometry *geometry, Tensor *grad_input);
void bias_gradient(const Tensor *grad_output, Tensor *grad_bias);

/* (B, O, H', W'); a length of less than 1 where the kernel does not fit. */
void output_shape(const Tensor *x, const Tensor *weight, const Geometry *geometry, int shape[4]);

#endif
