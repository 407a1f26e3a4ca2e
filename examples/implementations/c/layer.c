#include "layer.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define SWEEPS 40 /* Jacobi's method squares what is left off the diagonal in each of the last sweeps: about 8 do */

static float unfolded[LAYER_NUMBERS];
static float rotations[LAYER_NUMBERS];
static float between[2][LAYER_NUMBERS];

size_t tensor_size(const Tensor *tensor) {
    size_t size = 1;
    for (int axis = 0; axis < tensor->axes; axis++) size *= (size_t)tensor->shape[axis];
    return size;
}

static size_t columns_of(const Tensor *tensor, int mode) {
    return tensor_size(tensor) / (size_t)tensor->shape[mode];
}

/* How many numbers lie between two neighbours along an axis. */
static size_t step_of(const Tensor *tensor, int mode) {
    size_t step = 1;
    for (int axis = mode + 1; axis < tensor->axes; axis++) step *= (size_t)tensor->shape[axis];
    return step;
}

static int exponent_of_largest(const float *numbers, size_t count) {
    float largest = 0.0f;
    for (size_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(numbers[i]));
    int exponent = 0;
    frexpf(largest, &exponent);
    return exponent;
}

/* In blocks, so that the rounding errors of a long sum do not grow with its length. */
static float dot(const float *a, const float *b, size_t count) {
    float sum = 0.0f;
    for (size_t start = 0; start < count; start += 16) {
        const size_t stop = start + 16 < count ? start + 16 : count;
        float block = 0.0f;
        for (size_t i = start; i < stop; i++) block += a[i] * b[i];
        sum += block;
    }
    return sum;
}

int explained_variance_rank(const float *singular_values, int count, double explained_variance) {
    const int exponent = exponent_of_largest(singular_values, (size_t)count);
    float total = 0.0f, left_out = 0.0f;
    for (int i = count - 1; i >= 0; i--) {
        const float value = ldexpf(singular_values[i], -exponent); /* else the square may overflow */
        total += value * value;
    }
    const float allowed = (float)(1.0 - explained_variance) * total;
    int rank = count; /* what is left out is summed from the small end, where it is small against the total */
    while (rank > 1) {
        const float value = ldexpf(singular_values[rank - 1], -exponent);
        left_out += value * value;
        if (!(left_out <= allowed)) break;
        rank--;
    }
    return rank;
}

void unfold(const Tensor *tensor, int mode, float *matrix) {
    const size_t rows = (size_t)tensor->shape[mode], step = step_of(tensor, mode);
    const size_t blocks = columns_of(tensor, mode) / step;
    for (size_t row = 0; row < rows; row++)
        for (size_t block = 0; block < blocks; block++)
            memcpy(matrix + (row * blocks + block) * step, tensor->numbers + (block * rows + row) * step,
                   step * sizeof(float));
}

static void rotate(float *a, float *b, size_t count, float cosine, float sine) {
    for (size_t i = 0; i < count; i++) {
        const float x = a[i], y = b[i];
        a[i] = cosine * x - sine * y;
        b[i] = sine * x + cosine * y;
    }
}

/* One-sided Jacobi: turn pairs of rows until all are orthogonal. The turned rows are the singular values times the right
 * singular vectors; what they were turned by is the transpose of the left ones. */
static void orthogonalize_rows(float *rows, float *turned_by, size_t count, size_t columns) {
    for (size_t i = 0; i < count * count; i++) turned_by[i] = i % (count + 1) == 0 ? 1.0f : 0.0f;
    for (int sweep = 0, turned = 1; turned && sweep < SWEEPS; sweep++) {
        turned = 0;
        for (size_t p = 0; p + 1 < count; p++)
            for (size_t q = p + 1; q < count; q++) {
                float *a = rows + p * columns, *b = rows + q * columns;
                const float aa = dot(a, a, columns), bb = dot(b, b, columns), ab = dot(a, b, columns);
                if (fabsf(ab) <= 4.0f * FLT_EPSILON * sqrtf(aa) * sqrtf(bb)) continue;
                const float zeta = (bb - aa) / (2.0f * ab);
                const float tangent = copysignf(1.0f, zeta) / (fabsf(zeta) + hypotf(1.0f, zeta));
                const float cosine = 1.0f / hypotf(1.0f, tangent);
                rotate(a, b, columns, cosine, cosine * tangent);
                rotate(turned_by + p * count, turned_by + q * count, count, cosine, cosine * tangent);
                turned = 1;
            }
    }
}

/* Write the leading left singular vectors of an unfolding as columns; return how many. */
static int leading_vectors(const Tensor *tensor, int mode, double explained_variance, float *vectors) {
    const int count = tensor->shape[mode];
    const size_t columns = columns_of(tensor, mode), n = (size_t)count;
    unfold(tensor, mode, unfolded);
    const int exponent = exponent_of_largest(unfolded, n * columns);
    for (size_t i = 0; i < n * columns; i++) unfolded[i] = ldexpf(unfolded[i], -exponent);
    orthogonalize_rows(unfolded, rotations, n, columns);

    float *values = between[0], *order = between[1];
    for (int i = 0; i < count; i++) {
        values[i] = sqrtf(dot(unfolded + (size_t)i * columns, unfolded + (size_t)i * columns, columns));
        order[i] = (float)i;
    }
    for (int i = 0; i < count; i++)
        for (int j = i + 1; j < count; j++)
            if (values[j] > values[i]) {
                const float value = values[i], place = order[i];
                values[i] = values[j], order[i] = order[j];
                values[j] = value, order[j] = place;
            }
    const int rank = explained_variance_rank(values, count, explained_variance);
    for (int i = 0; i < count; i++)
        for (int k = 0; k < rank; k++) vectors[i * rank + k] = rotations[(size_t)order[k] * n + (size_t)i];
    return rank;
}

/* result = tensor x_mode matrix, or its transpose; the matrix is (rows, columns), as it lies in memory. */
static const char *mode_product(const Tensor *tensor, int mode, const Tensor *matrix, int transposed, Tensor *result) {
    const int rows = matrix->shape[0], columns = matrix->shape[1];
    const size_t from = (size_t)(transposed ? rows : columns), to = (size_t)(transposed ? columns : rows);
    const size_t step = step_of(tensor, mode), blocks = columns_of(tensor, mode) / step;
    if (blocks * to * step > LAYER_NUMBERS) return "an array between two steps is larger than LAYER_NUMBERS";
    for (size_t block = 0; block < blocks; block++)
        for (size_t row = 0; row < to; row++)
            for (size_t inner = 0; inner < step; inner++) {
                float sum = 0.0f;
                for (size_t k = 0; k < from; k++) {
                    const size_t at = transposed ? k * (size_t)columns + row : row * (size_t)columns + k;
                    sum += matrix->numbers[at] * tensor->numbers[(block * from + k) * step + inner];
                }
                result->numbers[(block * to + row) * step + inner] = sum;
            }
    result->axes = tensor->axes;
    memcpy(result->shape, tensor->shape, sizeof result->shape);
    result->shape[mode] = (int)to;
    return NULL;
}

static const char *multiply_all(const Tensor *tensor, const Tensor *factors, int transposed, Tensor *result) {
    Tensor current = *tensor, next;
    for (int mode = 0; mode < tensor->axes; mode++) {
        next.numbers = mode + 1 == tensor->axes ? result->numbers : between[mode % 2];
        const char *problem = mode_product(&current, mode, &factors[mode], transposed, &next);
        if (problem != NULL) return problem;
        current = next;
    }
    *result = current;
    return NULL;
}

const char *hosvd(const Tensor *tensor, double explained_variance, Tensor *core, Tensor *factors) {
    for (int mode = 0; mode < tensor->axes; mode++) {
        const int length = tensor->shape[mode];
        if (tensor_size(tensor) > LAYER_NUMBERS || (size_t)length * (size_t)length > LAYER_NUMBERS)
            return "the tensor, or the square of an axis, is larger than LAYER_NUMBERS";
        factors[mode].axes = 2;
        factors[mode].shape[0] = length;
        factors[mode].shape[1] = leading_vectors(tensor, mode, explained_variance, factors[mode].numbers);
    }
    return multiply_all(tensor, factors, 1, core);
}

const char *reconstruct(const Tensor *core, const Tensor *factors, Tensor *tensor) {
    return multiply_all(core, factors, 0, tensor);
}

/* Where position `out` of the output reads the input through tap `tap` of the kernel: may lie outside. */
static int read_at(int out, int tap, const Geometry *geometry, int axis) {
    return out * geometry->stride[axis] + tap * geometry->dilation[axis] - geometry->before[axis];
}

/* The weight gradient reads rows and columns of the input through the factors of height and width: stride, padding and
 * dilation act on these alone. */
static int factor_row(int out, int tap, const Geometry *geometry, int axis, int length) {
#if defined(PLANTED_PADDING)
    Geometry wrong = *geometry;
    wrong.before[1] = wrong.before[0];
    const int row = read_at(out, tap, &wrong, axis);
#elif defined(PLANTED_DILATION)
    Geometry wrong = *geometry;
    wrong.dilation[0] = wrong.dilation[1] = 1;
    const int row = read_at(out, tap, &wrong, axis);
#else
    const int row = read_at(out, tap, geometry, axis);
#endif
    return row >= 0 && row < length ? row : -1;
}

const char *weight_gradient(const Tensor *core, const Tensor *factors, const Tensor *grad_output,
                            const Geometry *geometry, Tensor *grad_weight) {
    const int out_channels = grad_output->shape[1];
    const int height = grad_output->shape[2], width = grad_output->shape[3];
    const int per_group = grad_weight->shape[1], k_h = grad_weight->shape[2], k_w = grad_weight->shape[3];
    const int k1 = core->shape[0], k2 = core->shape[1], k3 = core->shape[2], k4 = core->shape[3];
    const Tensor *of_channels = &factors[1], *of_height = &factors[2], *of_width = &factors[3];
    const size_t maps = (size_t)k1 * (size_t)out_channels, taps = (size_t)k_h * (size_t)k_w;
    const size_t over_width = maps * (size_t)height * (size_t)k4 * (size_t)k_w;
    const size_t over_both = maps * (size_t)k3 * (size_t)k4 * taps;
    const size_t of_core = (size_t)out_channels * (size_t)k2 * taps;
    if (maps * (size_t)height * (size_t)width > LAYER_NUMBERS || over_width > LAYER_NUMBERS ||
        over_both > LAYER_NUMBERS || of_core > LAYER_NUMBERS)
        return "an array between two steps is larger than LAYER_NUMBERS";

    /* [p, o, i, j] = sum_b grad_output[b, o, i, j] U1[b, p] */
    Tensor reduced = {0, {0}, between[0]};
    const char *problem = mode_product(grad_output, 0, &factors[0], 1, &reduced);
    if (problem != NULL) return problem;

    /* [p, o, i, s, v] = sum_j [p, o, i, j] U4[column of (j, v), s] */
    float *rows = between[1];
    for (size_t line = 0; line < maps * (size_t)height; line++)
        for (int s = 0; s < k4; s++)
            for (int v = 0; v < k_w; v++) {
                float sum = 0.0f;
                for (int j = 0; j < width; j++) {
                    const int at = factor_row(j, v, geometry, 1, of_width->shape[0]);
                    if (at >= 0) sum += reduced.numbers[line * (size_t)width + (size_t)j] * of_width->numbers[at * k4 + s];
                }
                rows[(line * (size_t)k4 + (size_t)s) * (size_t)k_w + (size_t)v] = sum;
            }

    /* [p, o, r, u, s, v] = sum_i [p, o, i, s, v] U3[row of (i, u), r] */
    const size_t across = (size_t)k4 * (size_t)k_w;
    for (size_t map = 0; map < maps; map++)
        for (int r = 0; r < k3; r++)
            for (int u = 0; u < k_h; u++)
                for (size_t sv = 0; sv < across; sv++) {
                    float sum = 0.0f;
                    for (int i = 0; i < height; i++) {
                        const int at = factor_row(i, u, geometry, 0, of_height->shape[0]);
                        if (at >= 0) sum += rows[(map * (size_t)height + (size_t)i) * across + sv] * of_height->numbers[at * k3 + r];
                    }
                    between[0][((map * (size_t)k3 + (size_t)r) * (size_t)k_h + (size_t)u) * across + sv] = sum;
                }

    /* [o, q, u, v] = sum_p,r,s [p, o, r, u, s, v] core[p, q, r, s] */
    for (int o = 0; o < out_channels; o++)
        for (int q = 0; q < k2; q++)
            for (int u = 0; u < k_h; u++)
                for (int v = 0; v < k_w; v++) {
                    float sum = 0.0f;
                    for (int p = 0; p < k1; p++)
                        for (int r = 0; r < k3; r++)
                            for (int s = 0; s < k4; s++) {
                                const size_t map = (size_t)p * (size_t)out_channels + (size_t)o;
                                const size_t at = ((map * (size_t)k3 + (size_t)r) * (size_t)k_h + (size_t)u) * across;
                                sum += between[0][at + (size_t)s * (size_t)k_w + (size_t)v] *
                                       core->numbers[((p * k2 + q) * k3 + r) * k4 + s];
                            }
                    between[1][((size_t)(o * k2 + q) * (size_t)k_h + (size_t)u) * (size_t)k_w + (size_t)v] = sum;
                }

    /* grad_weight[o, c, u, v] = sum_q [o, q, u, v] U2[channel c of o's group, q] */
    for (int o = 0; o < out_channels; o++) {
        const int first = o / (out_channels / geometry->groups) * per_group;
        for (int c = 0; c < per_group; c++)
            for (size_t uv = 0; uv < taps; uv++) {
                float sum = 0.0f;
                for (int q = 0; q < k2; q++)
                    sum += between[1][(size_t)(o * k2 + q) * taps + uv] * of_channels->numbers[(first + c) * k2 + q];
                grad_weight->numbers[(size_t)(o * per_group + c) * taps + uv] = sum;
            }
    }
    return NULL;
}

void output_shape(const Tensor *x, const Tensor *weight, const Geometry *geometry, int shape[4]) {
    shape[0] = x->shape[0];
    shape[1] = weight->shape[0];
    for (int axis = 0; axis < 2; axis++) {
        const int span = geometry->dilation[axis] * (weight->shape[2 + axis] - 1) + 1;
        const int room = x->shape[2 + axis] + geometry->before[axis] + geometry->after[axis] - span;
        shape[2 + axis] = room < 0 ? 0 : room / geometry->stride[axis] + 1;
    }
}

static size_t at4(const Tensor *tensor, int a, int b, int c, int d) {
    const int *shape = tensor->shape;
    return (((size_t)a * (size_t)shape[1] + (size_t)b) * (size_t)shape[2] + (size_t)c) * (size_t)shape[3] + (size_t)d;
}

void forward(const Tensor *x, const Tensor *weight, const Tensor *bias, const Geometry *geometry, Tensor *output) {
    const int per_group = weight->shape[1], out_per_group = weight->shape[0] / geometry->groups;
    for (int b = 0; b < output->shape[0]; b++)
        for (int o = 0; o < output->shape[1]; o++)
            for (int i = 0; i < output->shape[2]; i++)
                for (int j = 0; j < output->shape[3]; j++) {
                    float sum = 0.0f;
                    for (int c = 0; c < per_group; c++)
                        for (int u = 0; u < weight->shape[2]; u++)
                            for (int v = 0; v < weight->shape[3]; v++) {
                                const int h = read_at(i, u, geometry, 0), w = read_at(j, v, geometry, 1);
                                if (h < 0 || h >= x->shape[2] || w < 0 || w >= x->shape[3]) continue;
                                sum += x->numbers[at4(x, b, o / out_per_group * per_group + c, h, w)] *
                                       weight->numbers[at4(weight, o, c, u, v)];
                            }
                    output->numbers[at4(output, b, o, i, j)] = sum + bias->numbers[o];
                }
}

void input_gradient(const Tensor *grad_output, const Tensor *weight, const Geometry *geometry, Tensor *grad_input) {
    const int per_group = weight->shape[1], out_per_group = weight->shape[0] / geometry->groups;
    memset(grad_input->numbers, 0, tensor_size(grad_input) * sizeof(float));
    for (int b = 0; b < grad_output->shape[0]; b++)
        for (int o = 0; o < grad_output->shape[1]; o++)
            for (int i = 0; i < grad_output->shape[2]; i++)
                for (int j = 0; j < grad_output->shape[3]; j++)
                    for (int c = 0; c < per_group; c++)
                        for (int u = 0; u < weight->shape[2]; u++)
                            for (int v = 0; v < weight->shape[3]; v++) {
                                const int h = read_at(i, u, geometry, 0), w = read_at(j, v, geometry, 1);
                                if (h < 0 || h >= grad_input->shape[2] || w < 0 || w >= grad_input->shape[3]) continue;
                                grad_input->numbers[at4(grad_input, b, o / out_per_group * per_group + c, h, w)] +=
                                    grad_output->numbers[at4(grad_output, b, o, i, j)] *
                                    weight->numbers[at4(weight, o, c, u, v)];
                            }
}

void bias_gradient(const Tensor *grad_output, Tensor *grad_bias) {
    const size_t map = (size_t)grad_output->shape[2] * (size_t)grad_output->shape[3];
    for (int o = 0; o < grad_output->shape[1]; o++) {
        float sum = 0.0f;
        for (int b = 0; b < grad_output->shape[0]; b++)
            for (size_t i = 0; i < map; i++) sum += grad_output->numbers[at4(grad_output, b, o, 0, 0) + i];
        grad_bias->numbers[o] = sum;
    }
}
