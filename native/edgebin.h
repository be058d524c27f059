/* Runs networks of binary convolutions. Plain C; nothing throws through it, whatever it is given.

A network is a program: a list of int32, one operation after another, each of which makes the next value (0, 1, ...).
An array is a number into `arrays`, pairs of (offset in bytes, count of 4-byte items) of `data`; -1 where there is none.

  0 INPUT    channels
  1 REAL     in, channels, kernel, stride, dilation, weights [channels][kernel * kernel][in], bias, add, slope, lift, THEN
  2 BINARY   add, slope, lift, scale, bias, THEN, slices, then of every slice:
             in, least, channels, kernel, stride, dilation, weights [channels][kernel * kernel][words of in]
  3 SUM      slope, lift, scale, bias, summands, then of every summand: in, up
  4 SHORTCUT in, channels, stride
  5 CONCAT   count, then of each: in
  6 MEANS    in, hidden, weights [hidden][in], bias, weights [in][hidden], bias   (squeeze and excitation, to 1x1)
  7 SCALE    in, gains
  8 MAXPOOL  in, kernel, stride
  9 OUTPUT   in, the last operations; they make no value

THEN is five: a second map that is added, scale, bias, slope, lift. slope, lift, add, the second map: -1 for none. kernels.h says what
they compute, and in which order. */
#pragma once
#include <stdint.h>

#if defined(_WIN32)
#define EDGEBIN_API __declspec(dllexport)
#else
#define EDGEBIN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct edgebin_net edgebin_net;

EDGEBIN_API int edgebin_version(void);
EDGEBIN_API const char* edgebin_paths(void); /* code paths of this CPU, fastest first, separated by spaces */

/* NULL and a line in `error` if anything is wrong. path: NULL for the fastest. apart: 1 runs what is independent side by
   side, 0 runs one operation at a time on all threads. */
EDGEBIN_API edgebin_net* edgebin_open(const int32_t* program, int64_t items, const int64_t* arrays, int64_t array_count,
                                      const void* data, int64_t bytes, int height, int width, const char* path,
                                      int threads, int apart, char* error, int64_t room);
EDGEBIN_API const char* edgebin_path(const edgebin_net*);
EDGEBIN_API int64_t edgebin_memory(const edgebin_net*);  /* bytes of maps and arranged weights */
EDGEBIN_API int edgebin_operations(const edgebin_net*);
EDGEBIN_API int edgebin_outputs(const edgebin_net*);
EDGEBIN_API void edgebin_shape(const edgebin_net*, int output, int32_t* chw);
/* image (c, h, w); outputs[i] (c, h, w) float32 as edgebin_shape says. One run at a time: others wait. */
EDGEBIN_API void edgebin_run(edgebin_net*, const float* image, float* const* outputs);
/* The same on one thread; microseconds[i] of operation i. */
EDGEBIN_API void edgebin_profile(edgebin_net*, const float* image, float* const* outputs, double* microseconds);
EDGEBIN_API void edgebin_close(edgebin_net*);

/* One binary convolution's differing bits - floor(bits / 2), from packed words: in [h][w][words], weights [channels]
   [kernel * kernel][words], out [h'][w'][channels]. 0, or -1 if an argument is out of range. */
EDGEBIN_API int edgebin_count(const char* path, const uint32_t* in, int h, int w, int in_channels,
                              const uint32_t* weights, int channels, int kernel, int stride, int dilation, int32_t* out);

#ifdef __cplusplus
}
#endif
