/* Trap "symbol set": each name leads to the library, for the program and for libraries. */
#include "check.h"

static const char *const names[] = {
    "malloc", "calloc", "realloc", "reallocarray", "reallocarr", "free", "cfree", "memalign",
    "aligned_alloc", "posix_memalign", "valloc", "pvalloc", "malloc_usable_size",
    "malloc_good_size",
    "malloc_trim", "mallinfo", "mallinfo2", "mallopt", "malloc_stats", "malloc_info", "free_sized",
    "free_aligned_sized", "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_free",
    "__libc_memalign", "__libc_valloc", "__libc_pvalloc", "__libc_reallocarray", "__posix_memalign",
    "__malloc_hook", "__realloc_hook", "__free_hook", "__memalign_hook",
};

int main(void) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *at = dlsym(RTLD_DEFAULT, names[i]);
        Dl_info info;
        if (!at || !dladdr(at, &info) || !strstr(info.dli_fname, "libgfp_malloc.so"))
            dprintf(2, "%s is not the library's\n", names[i]);
    }
    void *(*alias)(size_t);
    *(void **)&alias = dlsym(RTLD_DEFAULT, "__libc_malloc");
    void *p = alias(100);
    CHECK(malloc_usable_size(p) >= 100);
    free(p);
    puts("ok");
}
