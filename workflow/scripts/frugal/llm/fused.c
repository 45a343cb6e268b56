/* What `frugal.llm.fused` does in one pass over memory, for numbers in bfloat16.
 *
 * PyTorch reads and writes an array once for each small operation; here a row stays in the processor's cache from
 * the first operation to the last. Arrays are dense, row after row, sums are in float32, and rows are shared among
 * the threads of OpenMP, which are those that PyTorch uses.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bfloat16; /* the upper half of a float */

static inline float wide(bfloat16 number) {
    uint32_t bits = (uint32_t)number << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* To the nearest, ties to even. */
static inline bfloat16 narrow(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

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

static float inverse_rms(const bfloat16 *row, long width, float eps) {
    float sum = 0;
    for (long i = 0; i < width; i++) sum += wide(row[i]) * wide(row[i]);
    return 1 / sqrtf(sum / width + eps);
}

void rms_norm(const bfloat16 *hidden, const bfloat16 *weight, bfloat16 *output, long rows, long width, float eps) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const bfloat16 *row = hidden + r * width;
        float inverse = inverse_rms(row, width, eps);
        for (long i = 0; i < width; i++)
            output[r * width + i] = narrow(wide(narrow(wide(row[i]) * inverse)) * wide(weight[i]));
    }
}

/* onto: NULL, or what the gradient is added to. */
void rms_norm_gradient(const bfloat16 *gradient, const bfloat16 *hidden, const bfloat16 *weight, const bfloat16 *onto,
                       bfloat16 *output, long rows, long width, float eps) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        const bfloat16 *row = hidden + r * width, *grad = gradient + r * width;
        bfloat16 *out = output + r * width;
        float inverse = inverse_rms(row, width, eps), along = 0;
        for (long i = 0; i < width; i++) along += wide(grad[i]) * wide(weight[i]) * wide(row[i]);
        along *= inverse * inverse / width;
#pragma omp simd
        for (long i = 0; i < width; i++)
            out[i] = narrow((wide(grad[i]) * wide(weight[i]) - along * wide(row[i])) * inverse +
                            (onto ? wide(onto[r * width + i]) : 0));
    }
}

void gated(const bfloat16 *gate, const bfloat16 *up, bfloat16 *output, long size) {
#pragma omp parallel for simd
    for (long i = 0; i < size; i++) output[i] = narrow(wide(gate[i]) * sigmoid(wide(gate[i])) * wide(up[i]));
}

/* The gradient of `up`, and that of `gate` in place of the product's. */
void gated_gradients(bfloat16 *gradient, const bfloat16 *gate, const bfloat16 *up, bfloat16 *to_up, long size) {
#pragma omp parallel for simd
    for (long i = 0; i < size; i++) {
        float grad = wide(gradient[i]), x = wide(gate[i]), open = sigmoid(x);
        to_up[i] = narrow(grad * x * open);
        gradient[i] = narrow(grad * wide(up[i]) * open * (1 + x * (1 - open)));
    }
}

/* vectors: (rows, heads, width); cosines and sines: (rows, width). */
void rotate(const bfloat16 *vectors, const bfloat16 *cosines, const bfloat16 *sines, bfloat16 *output, long rows,
            long heads, long width, float direction) {
    long half = width / 2;
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
        for (long h = 0; h < heads; h++) {
            const bfloat16 *in = vectors + (r * heads + h) * width;
            bfloat16 *out = output + (r * heads + h) * width;
            for (long i = 0; i < half; i++) {
                float first = wide(in[i]), second = wide(in[half + i]);
                float cosine = wide(cosines[r * width + i]), sine = direction * wide(sines[r * width + i]);
                out[i] = narrow(first * cosine - second * sine);
                out[half + i] = narrow(second * cosine + first * sine);
            }
        }
}

/* From (tokens, heads, width), whose `length` tokens begin at `tokens`, to (groups, padded x heads of a group, width). */
void gather_groups(const bfloat16 *tokens, bfloat16 *piece, long length, long padded, long groups, long row) {
    long together = row / groups; /* numbers of a group's heads, which stand in a row in both */
#pragma omp parallel for collapse(2)
    for (long g = 0; g < groups; g++)
        for (long t = 0; t < padded; t++) {
            bfloat16 *to = piece + (g * padded + t) * together;
            if (t < length)
                memcpy(to, tokens + t * row + g * together, together * sizeof *to);
            else
                memset(to, 0, together * sizeof *to);
        }
}

/* The way back. */
void scatter_groups(const bfloat16 *piece, bfloat16 *tokens, long length, long padded, long groups, long row) {
    long together = row / groups;
#pragma omp parallel for collapse(2)
    for (long t = 0; t < length; t++)
        for (long g = 0; g < groups; g++)
            memcpy(tokens + t * row + g * together, piece + (g * padded + t) * together, together * sizeof *tokens);
}

/* In place. Row r of each group is of query first + r / heads, which sees the keys up to its own place. */
void causal_softmax(bfloat16 *scores, long groups, long rows, long keys, long first, long heads, float scaling) {
#pragma omp parallel for collapse(2)
    for (long g = 0; g < groups; g++)
        for (long r = 0; r < rows; r++) {
            bfloat16 *row = scores + (g * rows + r) * keys;
            long seen = first + r / heads + 1;
            if (seen > keys) seen = keys;
            float numbers[keys], largest = -INFINITY, sum = 0;
            for (long i = 0; i < seen; i++) {
                numbers[i] = wide(row[i]) * scaling;
                largest = fmaxf(largest, numbers[i]);
            }
            for (long i = 0; i < seen; i++) sum += numbers[i] = exponential(numbers[i] - largest);
            sum = 1 / sum;
            for (long i = 0; i < seen; i++) row[i] = narrow(numbers[i] * sum);
            memset(row + seen, 0, (keys - seen) * sizeof *row);
        }
}

/* In place of the gradient of the probabilities: that of the scores. */
void softmax_gradient(bfloat16 *gradient, const bfloat16 *probabilities, long rows, long width, float scaling) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        bfloat16 *grad = gradient + r * width;
        const bfloat16 *row = probabilities + r * width;
        float along = 0;
        for (long i = 0; i < width; i++) along += wide(grad[i]) * wide(row[i]);
        for (long i = 0; i < width; i++) grad[i] = narrow(wide(row[i]) * (wide(grad[i]) - along) * scaling);
    }
}

/* columns: NULL, or what each column is first multiplied with. */
void quantize(const bfloat16 *input, const float *columns, int8_t *output, float *scales, long rows, long width) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++) {
        float numbers[width], largest = 0;
        for (long i = 0; i < width; i++) {
            numbers[i] = wide(input[r * width + i]) * (columns ? columns[i] : 1);
            largest = fmaxf(largest, fabsf(numbers[i]));
        }
        float inverse = largest > 0 ? 127 / largest : 0;
        for (long i = 0; i < width; i++)
            output[r * width + i] = (int8_t)(int32_t)nearbyintf(numbers[i] * inverse);
        scales[r] = largest / 127;
    }
}

/* columns, onto: NULL, or what each column is multiplied with, and what the result is added to. */
void dequantize(const int32_t *sums, const float *scales, const float *columns, const bfloat16 *onto, bfloat16 *output,
                long rows, long width) {
#pragma omp parallel for
    for (long r = 0; r < rows; r++)
#pragma omp simd
        for (long i = r * width; i < (r + 1) * width; i++) {
            float scale = scales[r] * (columns ? columns[i - r * width] : 1);
            output[i] = narrow(sums[i] * scale + (onto ? wide(onto[i]) : 0));
        }
}
