/* What runs on a board that has no pipe to a host: the vectors are constants in its flash, the results go to its console.
 *
 *     refgrad vectors export --c-header refgrad_vectors.h --flash 64K --op conv2d --op hosvd
 *     cc -std=c99 -o board board.c layer.c -lm && ./board > board.log
 *     refgrad vectors judge board.log */
#define BUFFERS 9
#include "layer.h"
#include "memory.h"
#include "refgrad_vectors.h"

/* Load an argument of a call; 0 where it is too large. */
static int load(const struct refgrad_case *vector, const char *name, Tensor *tensor) {
    for (int i = 0; i < vector->count; i++) {
        const struct refgrad_array *array = &vector->arrays[i];
        if (strcmp(array->name, name) != 0) continue;
        tensor->axes = array->axes;
        memcpy(tensor->shape, array->shape, sizeof tensor->shape);
        return tensor_size(tensor) <= LAYER_NUMBERS && refgrad_load(array, tensor->numbers) > 0;
    }
    return 0;
}

static void print_tensor(const char *name, const Tensor *tensor) {
    refgrad_print_array(name, tensor->axes, tensor->shape, tensor->numbers);
}

static void print_compressed(const Tensor *core) {
    print_tensor("core", core);
    for (int mode = 0; mode < core->axes; mode++) print_tensor(factor_name(mode), &factors[mode]);
    refgrad_print_integers("ranks", core->shape, core->axes);
}

static const char *run_hosvd(const struct refgrad_case *vector) {
    Tensor tensor = tensor_in(0), core = tensor_in(1);
    if (!load(vector, "tensor", &tensor)) return "the tensor is too large";
    const char *problem = hosvd(&tensor, vector->explained_variance, &core, factors);
    if (problem == NULL) print_compressed(&core);
    return problem;
}

static const char *run_conv2d(const struct refgrad_case *vector) {
    Tensor x = tensor_in(0), weight = tensor_in(1), bias = tensor_in(2), grad_output = tensor_in(3);
    if (!load(vector, "x", &x) || !load(vector, "weight", &weight) || !load(vector, "bias", &bias) ||
        !load(vector, "grad_output", &grad_output))
        return "an argument is too large";
    Geometry geometry = {{0}, {0}, {0}, {0}, vector->groups};
    for (int axis = 0; axis < 2; axis++) {
        geometry.stride[axis] = vector->stride[axis];
        geometry.dilation[axis] = vector->dilation[axis];
        geometry.before[axis] = vector->padding[2 * axis];
        geometry.after[axis] = vector->padding[2 * axis + 1];
    }
    Tensor output = like(&grad_output, 4), grad_input = like(&x, 5), grad_weight = like(&weight, 6);
    Tensor grad_bias = like(&bias, 7), core = tensor_in(8);
    forward(&x, &weight, &bias, &geometry, &output);
    const char *problem = hosvd(&x, vector->explained_variance, &core, factors);
    if (problem == NULL) problem = weight_gradient(&core, factors, &grad_output, &geometry, &grad_weight);
    if (problem != NULL) return problem;
    input_gradient(&grad_output, &weight, &geometry, &grad_input);
    bias_gradient(&grad_output, &grad_bias);
    print_tensor("output", &output);
    print_tensor("grad_input", &grad_input);
    print_tensor("grad_bias", &grad_bias);
    print_tensor("grad_weight", &grad_weight);
    print_compressed(&core);
    return NULL;
}

int main(void) {
    bring_memory();
    puts("the board is up");
    for (int i = 0; i < refgrad_count; i++) {
        const struct refgrad_case *vector = &refgrad_cases[i];
        const char *problem = "this board does not have the operation";
        refgrad_print_begin(vector);
        if (strcmp(vector->operation, "hosvd") == 0) problem = run_hosvd(vector);
        if (strcmp(vector->operation, "conv2d") == 0) problem = run_conv2d(vector);
        if (problem != NULL) refgrad_print_not_claimed(problem);
        refgrad_print_end();
    }
    return 0;
}
