/* For the room net only: the libuv loop beneath, as a pointer without its type. */
#ifndef SMTPD_LOOP_UV_HANDLE_H
#define SMTPD_LOOP_UV_HANDLE_H

#include "smtpd/loop/loop.h"

void *loop_uv(struct loop *loop); /* uv_loop_t * */

#endif
