#include "records.h"

#include <stdio.h>
#include <string.h>

enum { INTEGERS = 1, REAL = 2, TEXT = 3, FLOAT32 = 4, FLOAT64 = 5, HEADER = 16, VERSION = 1 };

static unsigned char incoming[RECORDS_BYTES], outgoing[HEADER + RECORDS_BYTES + 4];
static size_t incoming_bytes, outgoing_bytes;
static int outgoing_full;

static uint32_t crc32_of(uint32_t crc, const unsigned char *bytes, size_t count) {
    crc = ~crc;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1u ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

/* Least significant byte first, whatever the machine does. */
static uint64_t unpacked(const unsigned char *bytes, int count) {
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static void packed(unsigned char *bytes, uint64_t value, int count) {
    for (int i = 0; i < count; i++, value >>= 8) bytes[i] = (unsigned char)(value & 0xFF);
}

int record_read(void) {
    unsigned char header[HEADER], tail[4], passing[256];
    const size_t came = fread(header, 1, HEADER, stdin);
    if (came == 0) return END_OF_INPUT;
    if (came < HEADER || memcmp(header, "RGRD", 4) != 0 || unpacked(header + 4, 2) != VERSION) return NO_RECORD;
    const uint64_t length = unpacked(header + 8, 8);
    uint32_t crc = crc32_of(0, header, HEADER);
    if (length <= RECORDS_BYTES) {
        incoming_bytes = fread(incoming, 1, (size_t)length, stdin);
        if (incoming_bytes < length) return NO_RECORD;
        crc = crc32_of(crc, incoming, incoming_bytes);
    }
    for (uint64_t left = length <= RECORDS_BYTES ? 0 : length; left > 0;) {
        const size_t chunk = fread(passing, 1, left < sizeof passing ? (size_t)left : sizeof passing, stdin);
        if (chunk == 0) return NO_RECORD;
        left -= chunk;
        crc = crc32_of(crc, passing, chunk);
    }
    if (fread(tail, 1, 4, stdin) < 4 || unpacked(tail, 4) != crc) return NO_RECORD;
    return length <= RECORDS_BYTES ? (int)unpacked(header + 6, 2) : TOO_LONG;
}

/* How many bytes an item's value takes, its kind included; 0 where it does not fit into what is left. */
static size_t value_bytes(const unsigned char *value, size_t left) {
    size_t head = 2, body = 0;
    if (left < 2) return 0;
    if (value[0] == INTEGERS) body = 8 * (size_t)value[1];
    if (value[0] == REAL) head = 1, body = 8;
    if (value[0] == TEXT) {
        if (left < 5) return 0;
        head = 5, body = (size_t)unpacked(value + 1, 4);
    }
    if (value[0] == FLOAT32 || value[0] == FLOAT64) {
        head = 2 + 4 * (size_t)value[1];
        if (left < head) return 0;
        body = value[0] == FLOAT32 ? 4 : 8;
        for (int axis = 0; axis < value[1]; axis++) {
            const size_t length = (size_t)unpacked(value + 2 + 4 * axis, 4);
            if (length != 0 && body > RECORDS_BYTES / length) return 0;
            body *= length;
        }
    }
    return head + body <= left ? head + body : 0;
}

static const unsigned char *find(const char *name, int kind) {
    size_t at = 0;
    while (at < incoming_bytes) {
        const size_t label = incoming[at];
        if (at + 1 + label >= incoming_bytes) return NULL;
        const unsigned char *value = incoming + at + 1 + label;
        const size_t bytes = value_bytes(value, incoming_bytes - at - 1 - label);
        if (bytes == 0) return NULL;
        if (label == strlen(name) && memcmp(incoming + at + 1, name, label) == 0) return value[0] == kind ? value : NULL;
        at += 1 + label + bytes;
    }
    return NULL;
}

int item_text(const char *name, char *text, int room) {
    const unsigned char *value = find(name, TEXT);
    const size_t length = value == NULL ? 0 : (size_t)unpacked(value + 1, 4);
    if (value == NULL || length >= (size_t)room) return 0;
    memcpy(text, value + 5, length);
    text[length] = '\0';
    return 1;
}

int item_integers(const char *name, int *integers, int count) {
    const unsigned char *value = find(name, INTEGERS);
    if (value == NULL || value[1] != count) return 0;
    for (int i = 0; i < count; i++) integers[i] = (int)(int64_t)unpacked(value + 2 + 8 * i, 8);
    return 1;
}

int item_real(const char *name, double *real) {
    const unsigned char *value = find(name, REAL);
    if (value == NULL) return 0;
    const uint64_t bits = unpacked(value + 1, 8);
    memcpy(real, &bits, sizeof bits);
    return 1;
}

int item_tensor(const char *name, Tensor *tensor) {
    const unsigned char *value = find(name, FLOAT32);
    if (value == NULL || value[1] > LAYER_AXES) return 0;
    tensor->axes = value[1];
    for (int axis = 0; axis < tensor->axes; axis++) tensor->shape[axis] = (int)unpacked(value + 2 + 4 * axis, 4);
    const size_t size = tensor_size(tensor);
    if (size > LAYER_NUMBERS) return 0;
    for (size_t i = 0; i < size; i++) {
        const uint32_t bits = (uint32_t)unpacked(value + 2 + 4 * tensor->axes + 4 * i, 4);
        memcpy(tensor->numbers + i, &bits, sizeof bits);
    }
    return 1;
}

static void put(uint64_t value, int bytes) {
    if (outgoing_bytes + (size_t)bytes > HEADER + RECORDS_BYTES) {
        outgoing_full = 1;
        return;
    }
    packed(outgoing + outgoing_bytes, value, bytes);
    outgoing_bytes += (size_t)bytes;
}

static void put_bytes(const char *bytes) {
    for (; *bytes != '\0'; bytes++) put((unsigned char)*bytes, 1);
}

static void put_name(const char *name, int kind) {
    put(strlen(name), 1);
    put_bytes(name);
    put((uint64_t)kind, 1);
}

void record_begin(int type) {
    memcpy(outgoing, "RGRD", 4);
    packed(outgoing + 4, VERSION, 2);
    packed(outgoing + 6, (uint64_t)type, 2);
    outgoing_bytes = HEADER;
    outgoing_full = 0;
}

void put_text(const char *name, const char *text) {
    put_name(name, TEXT);
    put(strlen(text), 4);
    put_bytes(text);
}

void put_integers(const char *name, const int *integers, int count) {
    put_name(name, INTEGERS);
    put((uint64_t)count, 1);
    for (int i = 0; i < count; i++) put((uint64_t)(int64_t)integers[i], 8);
}

void put_tensor(const char *name, const Tensor *tensor) {
    put_name(name, FLOAT32);
    put((uint64_t)tensor->axes, 1);
    for (int axis = 0; axis < tensor->axes; axis++) put((uint64_t)tensor->shape[axis], 4);
    for (size_t i = 0; i < tensor_size(tensor); i++) {
        uint32_t bits;
        memcpy(&bits, tensor->numbers + i, sizeof bits);
        put(bits, 4);
    }
}

int record_write(void) {
    if (outgoing_full) return 0;
    packed(outgoing + 8, outgoing_bytes - HEADER, 8);
    packed(outgoing + outgoing_bytes, crc32_of(0, outgoing, outgoing_bytes), 4);
    return fwrite(outgoing, 1, outgoing_bytes + 4, stdout) == outgoing_bytes + 4 && fflush(stdout) == 0;
}
