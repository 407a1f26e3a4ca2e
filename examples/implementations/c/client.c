/* The program that `refgrad check` talks to: it says what it offers, and answers calls until its input ends. */
#include <stdio.h>
#include <string.h>

#define BUFFERS 10
#include "layer.h"
#include "memory.h"
#include "records.h"

static const char *const MISSING = "an argument is missing, is no float32, or holds more than LAYER_NUMBERS numbers";

static int read_factors(int count) {
    bring_memory();
    for (int mode = 0; mode < count; mode++)
        if (!item_tensor(factor_name(mode), &factors[mode])) return 0;
    return 1;
}

static int read_geometry(Geometry *geometry) {
    int pads[4];
    const int complete = item_integers("stride", geometry->stride, 2) && item_integers("padding", pads, 4) &&
                         item_integers("dilation", geometry->dilation, 2) &&
                         item_integers("groups", &geometry->groups, 1);
    if (!complete) return 0;
    geometry->before[0] = pads[0], geometry->after[0] = pads[1];
    geometry->before[1] = pads[2], geometry->after[1] = pads[3];
    return 1;
}

static void put_compressed(const Tensor *core, const Tensor *reconstruction) {
    int numbers = (int)tensor_size(core);
    put_tensor("core", core);
    for (int mode = 0; mode < core->axes; mode++) {
        put_tensor(factor_name(mode), &factors[mode]);
        numbers += (int)tensor_size(&factors[mode]);
    }
    put_integers("ranks", core->shape, core->axes);
    put_tensor("reconstruction", reconstruction);
    put_integers("stored_numbers", &numbers, 1);
}

static const char *answer_rank(void) {
    Tensor singular_values = tensor_in(0);
    double explained_variance;
    if (!item_tensor("singular_values", &singular_values) || !item_real("explained_variance", &explained_variance))
        return MISSING;
    const int rank = explained_variance_rank(singular_values.numbers, singular_values.shape[0], explained_variance);
    record_begin(RESULT);
    put_integers("rank", &rank, 1);
    return NULL;
}

static const char *answer_unfold(void) {
    Tensor tensor = tensor_in(0), matrix = tensor_in(1);
    int mode;
    if (!item_tensor("tensor", &tensor) || !item_integers("mode", &mode, 1)) return MISSING;
    unfold(&tensor, mode, matrix.numbers);
    matrix.axes = 2;
    matrix.shape[0] = tensor.shape[mode];
    matrix.shape[1] = (int)(tensor_size(&tensor) / (size_t)tensor.shape[mode]);
    record_begin(RESULT);
    put_tensor("matrix", &matrix);
    return NULL;
}

static const char *answer_hosvd(void) {
    Tensor tensor = tensor_in(0), core = tensor_in(1), reconstruction = tensor_in(2);
    double explained_variance;
    if (!item_tensor("tensor", &tensor) || !item_real("explained_variance", &explained_variance)) return MISSING;
    bring_memory();
    const char *problem = hosvd(&tensor, explained_variance, &core, factors);
    if (problem == NULL) problem = reconstruct(&core, factors, &reconstruction);
    if (problem != NULL) return problem;
    record_begin(RESULT);
    put_compressed(&core, &reconstruction);
    return NULL;
}

static const char *answer_reconstruct(void) {
    Tensor core = tensor_in(0), reconstruction = tensor_in(1);
    if (!item_tensor("core", &core) || !read_factors(core.axes)) return MISSING;
    const char *problem = reconstruct(&core, factors, &reconstruction);
    if (problem != NULL) return problem;
    record_begin(RESULT);
    put_tensor("reconstruction", &reconstruction);
    return NULL;
}

static const char *answer_weight_gradient(void) {
    Tensor core = tensor_in(0), grad_output = tensor_in(1), grad_weight = tensor_in(2);
    Geometry geometry;
    int kernel[2];
    if (!item_tensor("core", &core) || !read_factors(4) || !item_tensor("grad_output", &grad_output) ||
        !read_geometry(&geometry) || !item_integers("kernel_size", kernel, 2))
        return MISSING;
    grad_weight.axes = 4;
    grad_weight.shape[0] = grad_output.shape[1];
    grad_weight.shape[1] = factors[1].shape[0] / geometry.groups;
    grad_weight.shape[2] = kernel[0];
    grad_weight.shape[3] = kernel[1];
    if (tensor_size(&grad_weight) > LAYER_NUMBERS) return MISSING;
    const char *problem = weight_gradient(&core, factors, &grad_output, &geometry, &grad_weight);
    if (problem != NULL) return problem;
    record_begin(RESULT);
    put_tensor("grad_weight", &grad_weight);
    return NULL;
}

static const char *answer_conv2d(void) {
    Tensor x = tensor_in(0), weight = tensor_in(1), bias = tensor_in(2), grad_output = tensor_in(3);
    Geometry geometry;
    double explained_variance;
    if (!item_tensor("x", &x) || !item_tensor("weight", &weight) || !item_tensor("bias", &bias) ||
        !item_tensor("grad_output", &grad_output) || !read_geometry(&geometry) ||
        !item_real("explained_variance", &explained_variance))
        return MISSING;
    Tensor output = like(&grad_output, 4), grad_input = like(&x, 5), grad_weight = like(&weight, 6);
    Tensor grad_bias = like(&bias, 7), core = tensor_in(8), reconstruction = tensor_in(9);

    forward(&x, &weight, &bias, &geometry, &output);
    bring_memory();
    const char *problem = hosvd(&x, explained_variance, &core, factors);
    if (problem != NULL) return problem;

    /* From here on the input is not looked at any more. */
    problem = weight_gradient(&core, factors, &grad_output, &geometry, &grad_weight);
    if (problem != NULL) return problem;
    input_gradient(&grad_output, &weight, &geometry, &grad_input);
    bias_gradient(&grad_output, &grad_bias);
    problem = reconstruct(&core, factors, &reconstruction);
    if (problem != NULL) return problem;

    record_begin(RESULT);
    put_tensor("output", &output);
    put_tensor("grad_input", &grad_input);
    put_tensor("grad_bias", &grad_bias);
    put_tensor("grad_weight", &grad_weight);
    put_compressed(&core, &reconstruction);
    return NULL;
}

static const struct {
    const char *name;
    const char *(*answer)(void);
} OPERATIONS[] = {
    {"rank", answer_rank},
    {"unfold", answer_unfold},
    {"hosvd", answer_hosvd},
    {"reconstruct", answer_reconstruct},
    {"weight_gradient", answer_weight_gradient},
    {"conv2d", answer_conv2d},
};
enum { COUNT = sizeof OPERATIONS / sizeof OPERATIONS[0] };

static int say(int type, const char *name, const char *text) {
    record_begin(type);
    put_text(name, text);
    return record_write();
}

static int say_hello(void) {
    char names[256] = "";
    for (int i = 0; i < COUNT; i++) {
        strcat(names, OPERATIONS[i].name);
        strcat(names, " ");
    }
    record_begin(HELLO);
    put_text("operations", names);
    put_text("dtypes", "float32");
    put_text("accumulator", "float32");
    put_text("limits", "arrays of at most LAYER_NUMBERS numbers");
    return record_write();
}

int main(void) {
    char operation[32];
    int alive = say_hello();
    while (alive) {
        const int type = record_read();
        if (type == END_OF_INPUT) return 0;
        if (type == NO_RECORD) {
            fputs("client: what came is no record\n", stderr);
            return 1;
        }
        const char *problem = type == TOO_LONG ? "the arguments are longer than RECORDS_BYTES" : "only calls are answered";
        operation[0] = '\0';
        if (type == CALL && item_text("operation", operation, sizeof operation))
            for (int i = 0; i < COUNT; i++)
                if (strcmp(operation, OPERATIONS[i].name) == 0) problem = OPERATIONS[i].answer();
        if (problem != NULL)
            alive = say(NOT_CLAIMED, "reason", problem);
        else if (!record_write())
            alive = say(NOT_CLAIMED, "reason", "the results are longer than RECORDS_BYTES");
    }
    fputs("client: the output is closed\n", stderr);
    return 1;
}
