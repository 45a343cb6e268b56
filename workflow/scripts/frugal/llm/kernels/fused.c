/* The operations of `frugal.llm.kernels.fused`, each in one pass over memory.
 *
 * PyTorch reads and writes an array once for each small operation; here a row stays in the CPU's cache from the first
 * operation to the last. Arrays are dense and row-major, sums are in float32, and rows are shared among OpenMP's
 * threads, which are those that PyTorch uses.
 *
 * One source serves two types: `number` is bfloat16 where the macro BFLOAT16 is defined, and float32 elsewhere.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef BFLOAT16
typedef uint16_t number; /* the upper half of a float */

static inline float wide(number value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* To the nearest, ties to even. */
static inline number narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
#else
typedef float number;

static inline float wide(number value) { return value; }
static inline number narrow(float value) { return value; }
#endif

/* exp, within a millionth: 2^whole, put together from its bits, times a polynomial for what is left. */
static inline float exponential(float x) {
    float power = fminf(fmaxf(x * 1.44269504f, -126.0f), 127.0f);
    float whole = nearbyintf(power), rest = (power - whole) * 0.693147181f;
    float tail = 1 / 6.0f + rest * (1 / 24.0f + rest * (1 / 120.0f + rest / 720));
    float series = 1 + rest * (1 + rest * (0.5f + rest * tail));
    uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale * series;
}

static inline float sigmoid(float x) { return 1 / (1 + exponential(-x)); }

static float inverse_rms(const number *row, long width, float eps) {
    float sum = 0;
    for (long i = 0; i < width; i++) sum += wide(row[i]) * wide(row[i]);
    return 1 / sqrtf(sum / width + eps);
}

void rms_norm(const number *hidden, const number *weight, number *output, long rows, long width, float eps) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const number *row = hidden + r * width;
        float inverse = inverse_rms(row, width, eps);
        for (long i = 0; i < width; i++)
            output[r * width + i] = narrow(wide(narrow(wide(row[i]) * inverse)) * wide(weight[i]));
    }
}

/* residual: NULL, or the gradient that is added. */
void rms_norm_gradient(const number *gradient, const number *hidden, const number *weight, const number *residual,
                       number *output, long rows, long width, float eps) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const number *row = hidden + r * width, *grad = gradient + r * width;
        number *out = output + r * width;
        float inverse = inverse_rms(row, width, eps), along = 0;
        for (long i = 0; i < width; i++) along += wide(grad[i]) * wide(weight[i]) * wide(row[i]);
        along *= inverse * inverse / width;
#pragma omp simd
        for (long i = 0; i < width; i++)
            out[i] = narrow((wide(grad[i]) * wide(weight[i]) - along * wide(row[i])) * inverse +
                            (residual ? wide(residual[r * width + i]) : 0));
    }
}

void gated(const number *gate, const number *up, number *output, long size) {
#pragma omp parallel for simd
    for (long i = 0; i < size; i++) output[i] = narrow(wide(gate[i]) * sigmoid(wide(gate[i])) * wide(up[i]));
}

/* The gradient of `up`, and that of `gate` in place of the product's. */
void gated_gradients(number *gradient, const number *gate, const number *up, number *to_up, long size) {
#pragma omp parallel for simd
    for (long i = 0; i < size; i++) {
        float grad = wide(gradient[i]), x = wide(gate[i]), open = sigmoid(x);
        float shut = sigmoid(-x); /* 1 - open would be rounding alone where x is large */
        to_up[i] = narrow(grad * x * open);
        gradient[i] = narrow(grad * wide(up[i]) * open * (1 + x * shut));
    }
}

/* vectors: (rows, heads, width); cosines and sines: (rows, width). */
void rotate(const number *vectors, const number *cosines, const number *sines, number *output, long rows,
            long heads, long width, float direction) {
    long half = width / 2;
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
        for (long h = 0; h < heads; h++) {
            const number *in = vectors + (r * heads + h) * width;
            number *out = output + (r * heads + h) * width;
            for (long i = 0; i < half; i++) {
                float first = wide(in[i]), second = wide(in[half + i]);
                float cosine = wide(cosines[r * width + i]), sine = direction * wide(sines[r * width + i]);
                out[i] = narrow(first * cosine - second * sine);
                out[half + i] = narrow(second * cosine + first * sine);
            }
        }
}

/* From (tokens, heads, width), whose `length` tokens begin at `tokens`, to (groups, padded x heads of a group, width). */
void gather_groups(const number *tokens, number *piece, long length, long padded, long groups, long row) {
    long together = row / groups; /* numbers of a group's heads, which stand in a row in both */
#pragma omp parallel for collapse(2)
    for (long g = 0; g < groups; g++)
        for (long t = 0; t < padded; t++) {
            number *to = piece + (g * padded + t) * together;
            if (t < length)
                memcpy(to, tokens + t * row + g * together, together * sizeof *to);
            else
                memset(to, 0, together * sizeof *to);
        }
}

/* The way back. */
void scatter_groups(const number *piece, number *tokens, long length, long padded, long groups, long row) {
    long together = row / groups;
#pragma omp parallel for collapse(2)
    for (long t = 0; t < length; t++)
        for (long g = 0; g < groups; g++)
            memcpy(tokens + t * row + g * together, piece + (g * padded + t) * together, together * sizeof *tokens);
}

/* In place. Row r of each group is of query first + r / heads, which sees the keys up to its own place. */
void causal_softmax(number *scores, long groups, long rows, long keys, long first, long heads, float scaling) {
#pragma omp parallel for collapse(2)
    for (long g = 0; g < groups; g++)
        for (long r = 0; r < rows; r++) {
            number *row = scores + (g * rows + r) * keys;
            long seen = first + r / heads + 1;
            if (seen > keys) seen = keys;
            float row_values[keys], largest = -INFINITY, sum = 0;
            for (long i = 0; i < seen; i++) {
                row_values[i] = wide(row[i]) * scaling;
                largest = fmaxf(largest, row_values[i]);
            }
            for (long i = 0; i < seen; i++) sum += row_values[i] = exponential(row_values[i] - largest);
            sum = 1 / sum;
            for (long i = 0; i < seen; i++) row[i] = narrow(row_values[i] * sum);
            memset(row + seen, 0, (keys - seen) * sizeof *row);
        }
}

/* In place of the gradient of the probabilities: that of the scores. */
void softmax_gradient(number *gradient, const number *probabilities, long rows, long width, float scaling) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        number *grad = gradient + r * width;
        const number *row = probabilities + r * width;
        float along = 0;
        for (long i = 0; i < width; i++) along += wide(grad[i]) * wide(row[i]);
        for (long i = 0; i < width; i++) grad[i] = narrow(wide(row[i]) * (wide(grad[i]) - along) * scaling);
    }
}

/* columns: NULL, or the factor of each column. */
void quantize(const number *input, const float *columns, int8_t *output, float *scales, long rows, long width) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        float row_values[width], largest = 0;
        for (long i = 0; i < width; i++) {
            row_values[i] = wide(input[r * width + i]) * (columns ? columns[i] : 1);
            largest = fmaxf(largest, fabsf(row_values[i]));
        }
        float inverse = largest > 1e-36f ? 127 / largest : 0; /* below, 127 / largest is no float */
        for (long i = 0; i < width; i++)
            output[r * width + i] = (int8_t)(int32_t)nearbyintf(row_values[i] * inverse);
        scales[r] = largest / 127;
    }
}

/* columns: NULL, or the factor of each column; residual: NULL, or what is added. */
void dequantize(const int32_t *sums, const float *scales, const float *columns, const number *residual, number *output,
                long rows, long width) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
#pragma omp simd
        for (long i = r * width; i < (r + 1) * width; i++) {
            float scale = scales[r] * (columns ? columns[i - r * width] : 1);
            output[i] = narrow(sums[i] * scale + (residual ? wide(residual[i]) : 0));
        }
}

/* Frozen weights in 8 bits, with a scale for each row. */
void dequantize_weights(const int8_t *values, const float *scales, number *output, long rows, long width) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
#pragma omp simd
        for (long i = r * width; i < (r + 1) * width; i++) output[i] = narrow(values[i] * scales[r]);
}
