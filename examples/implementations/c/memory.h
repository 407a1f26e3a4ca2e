/* The buffers that a program without an allocator works in, and tensors that live in them. Who includes it says first
 * how many BUFFERS it takes. */
#ifndef MEMORY_H
#define MEMORY_H

#include "layer.h"

static float memory[BUFFERS][LAYER_NUMBERS];
static float factor_memory[LAYER_AXES][LAYER_NUMBERS];
static Tensor factors[LAYER_AXES];

/* A tensor in one of the buffers, which gets its shape later. */
static inline Tensor tensor_in(int place) {
    const Tensor tensor = {0, {0}, memory[place]};
    return tensor;
}

/* One of the shape of another. */
static inline Tensor like(const Tensor *other, int place) {
    Tensor tensor = *other;
    tensor.numbers = memory[place];
    return tensor;
}

static inline const char *factor_name(int mode) {
    static char name[] = "factors[0]"; /* one digit is enough: LAYER_AXES is less than 10 */
    name[8] = (char)('0' + mode);
    return name;
}

/* Give the factors their buffers back: their shapes are those of the call before. */
static inline void bring_memory(void) {
    for (int mode = 0; mode < LAYER_AXES; mode++) factors[mode].numbers = factor_memory[mode];
}

#endif
