/* Calls one function of fused.c on arrays in files, so that another machine's build can be tested under an emulator.
 *
 * Arguments: the function's name, then its arguments in order: a file for an array, which is read and then written
 * back, "null", or a number.
 */
#include "fused.c"

#include <stdio.h>
#include <stdlib.h>

static char **words;

static void *contents[9];
static long sizes[9];

static void *array(int place) {
    if (!strcmp(words[place], "null")) return NULL;
    FILE *file = fopen(words[place], "rb");
    if (!file || fseek(file, 0, SEEK_END)) exit(2);
    sizes[place] = ftell(file);
    contents[place] = malloc(sizes[place]);
    rewind(file);
    if (fread(contents[place], 1, sizes[place], file) != (size_t)sizes[place]) exit(3);
    fclose(file);
    return contents[place];
}

#define A(place) array(place)
#define N(place) atol(words[place])
#define F(place) strtof(words[place], NULL)
#define CALL(function, ...)                                                                                            \
    if (!strcmp(argv[1], #function)) {                                                                                 \
        function(__VA_ARGS__);                                                                                         \
        found = 1;                                                                                                     \
    }

int main(int argc, char **argv) {
    int found = 0;
    words = argv + 2;
    CALL(rms_norm, A(0), A(1), A(2), N(3), N(4), F(5))
    CALL(rms_norm_gradient, A(0), A(1), A(2), A(3), A(4), N(5), N(6), F(7))
    CALL(gated, A(0), A(1), A(2), N(3))
    CALL(gated_gradients, A(0), A(1), A(2), A(3), N(4))
    CALL(rotate, A(0), A(1), A(2), A(3), N(4), N(5), N(6), F(7))
    CALL(gather_groups, A(0), A(1), N(2), N(3), N(4), N(5))
    CALL(scatter_groups, A(0), A(1), N(2), N(3), N(4), N(5))
    CALL(causal_softmax, A(0), N(1), N(2), N(3), N(4), N(5), F(6))
    CALL(softmax_gradient, A(0), A(1), N(2), N(3), F(4))
    CALL(quantize, A(0), A(1), A(2), A(3), N(4), N(5))
    CALL(dequantize, A(0), A(1), A(2), A(3), A(4), N(5), N(6))
    CALL(dequantize_weights, A(0), A(1), A(2), N(3), N(4))
    for (int place = 0; place < argc - 2; place++)
        if (contents[place]) {
            FILE *file = fopen(words[place], "wb");
            if (!file || fwrite(contents[place], 1, sizes[place], file) != (size_t)sizes[place]) return 4;
            fclose(file);
        }
    return !found;
}
