/* Finds speech in a 16 kHz mono WAV file with the compiled Silero VAD model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "silero.h"

enum { RATE = 16000, CHUNK = 512, QUIET_CHUNKS = 7 }; /* pauses under 0.2 s do not end a segment */

/* Reads 16-bit mono samples; only plain PCM files are understood. */
static float* read_wav(const char* path, size_t* n) {
    FILE* file = fopen(path, "rb");
    unsigned char head[12], chunk[8];
    float* samples = NULL;
    if (file == NULL || fread(head, 1, 12, file) != 12 || memcmp(head + 8, "WAVE", 4) != 0) return NULL;
    while (fread(chunk, 1, 8, file) == 8) {
        size_t bytes = chunk[4] | chunk[5] << 8 | chunk[6] << 16 | (size_t)chunk[7] << 24;
        if (memcmp(chunk, "data", 4) != 0) {
            if (fseek(file, (long)bytes, SEEK_CUR) != 0) break;
            continue;
        }
        samples = malloc((bytes / 2 + CHUNK) * sizeof *samples);
        for (*n = 0; samples != NULL && *n < bytes / 2 && fread(head, 1, 2, file) == 2; ++*n)
            samples[*n] = (float)(int16_t)(head[0] | head[1] << 8) / 32768.0f;
        break;
    }
    fclose(file);
    return samples;
}

int main(int argc, char** argv) {
    size_t n = 0, chunks = 0, quiet = 0;
    float* samples = read_wav(argc > 1 ? argv[1] : "../speech.wav", &n);
    silero_model* model = NULL;
    aot_error err = {0};
    if (samples == NULL) return fprintf(stderr, "cannot read the WAV file\n"), 1;
    if (silero_open(&model, NULL, &err) != AOT_OK) return fprintf(stderr, "%s\n", err.text), 1;

    double start = -1, seconds = 0;
    for (size_t at = 0; at + CHUNK <= n; at += CHUNK, ++chunks) {
        const int64_t sizes[2] = {1, CHUNK};
        aot_tensor audio = {0};
        aot_value in[2] = {{0}}, out = {0};
        audio.data = samples + at;
        audio.sizes = sizes;
        audio.ndim = 2;
        audio.dtype = AOT_F32;
        in[0].tag = AOT_VALUE_TENSOR;
        in[0].as.tensor = &audio;
        in[1].tag = AOT_VALUE_INT;
        in[1].as.i = RATE;
        clock_t before = clock();
        if (silero_call(model, NULL, "forward", in, 2, &out, &err) != AOT_OK)
            return fprintf(stderr, "%s\n", err.text), 1;
        seconds += (double)(clock() - before) / CLOCKS_PER_SEC;
        float probability = *(float*)out.as.tensor->data;
        silero_value_release(&out);
        quiet = probability >= 0.5f ? 0 : quiet + 1;
        if (quiet == 0 && start < 0) start = (double)at / RATE;
        if (quiet == QUIET_CHUNKS && start >= 0) {
            printf("speech %6.2f s to %6.2f s\n", start, (double)(at - (QUIET_CHUNKS - 1) * CHUNK) / RATE);
            start = -1;
        }
    }
    if (start >= 0) printf("speech %6.2f s to %6.2f s\n", start, (double)n / RATE);
    printf("%zu chunks of 32 ms, %.1f us each\n", chunks, 1e6 * seconds / (double)(chunks ? chunks : 1));
    silero_close(model);
    free(samples);
    return 0;
}
