/* Feeds every file of the folders (or files) that are named to a fuzzer once, where
 * libFuzzer is not linked: so the corpus is an ordinary test with every compiler. Each
 * input lies in a block of exactly its own size, so that a sanitizer sees the first byte
 * read beyond it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *path)
{
    perror(path);
    exit(1);
}

static void run_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size > 0 ? size : 1);

    if (!file || !data || fread(data, 1, size, file) != size)
        fail(path);
    (void)fclose(file);
    /* Said before the run: whoever reads a crash sees which file it was. */
    printf("%s\n", path);
    (void)fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
}

static int run_path(const char *path);

static int run_folder(const char *path)
{
    struct dirent **names = NULL;
    int count = scandir(path, &names, NULL, alphasort); /* always the same order */
    int ran = 0;

    if (count < 0)
        fail(path);
    for (int i = 0; i < count; i++) {
        char inner[4096];

        if (names[i]->d_name[0] != '.') {
            (void)snprintf(inner, sizeof(inner), "%s/%s", path, names[i]->d_name);
            ran += run_path(inner);
        }
        free(names[i]);
    }
    free(names);
    return ran;
}

static int run_path(const char *path)
{
    struct stat about;

    if (stat(path, &about) != 0)
        fail(path);
    if (S_ISDIR(about.st_mode))
        return run_folder(path);
    run_file(path, (size_t)about.st_size);
    return 1;
}

int main(int argc, char **argv)
{
    int ran = 0;

    for (int i = 1; i < argc; i++)
        ran += run_path(argv[i]);
    if (ran == 0) {
        (void)fprintf(stderr, "no input: an empty corpus proves nothing\n");
        return 1;
    }
    printf("%d inputs\n", ran);
    return 0;
}
