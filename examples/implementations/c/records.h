/* The record protocol of `refgrad check`, as docs/foreign.md specifies it: one record in, one out. No allocation. */
#ifndef RECORDS_H
#define RECORDS_H

#include <stdint.h>

#include "layer.h"

#ifndef RECORDS_BYTES
#define RECORDS_BYTES (1 << 21) /* the largest payload that is taken or sent */
#endif

enum { HELLO = 1, CALL = 2, RESULT = 3, NOT_CLAIMED = 4, ERROR = 5, END_OF_INPUT = -1, NO_RECORD = -2, TOO_LONG = -3 };

/* Read a record from stdin into memory and return its type. What is too long was read over: the next record can be read. */
int record_read(void);

/* The items of the record that was read last; NULL or 0 where there is none of that name and kind. */
int item_text(const char *name, char *text, int room);
int item_integers(const char *name, int *integers, int count);
int item_real(const char *name, double *real);
int item_tensor(const char *name, Tensor *tensor); /* brings memory for LAYER_NUMBERS */

/* Put together a record and write it to stdout: `record_write` returns 0 where it did not fit or could not be written. */
void record_begin(int type);
void put_text(const char *name, const char *text);
void put_integers(const char *name, const int *integers, int count);
void put_tensor(const char *name, const Tensor *tensor);
int record_write(void);

#endif
