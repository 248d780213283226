#include "check.h"
void *give(size_t size);
void take(void *p);
size_t usable(void *p);
char *text(void);
void *give(size_t size) { return malloc(size); }
void take(void *p) { free(p); }
size_t usable(void *p) { return malloc_usable_size(p); }
char *text(void) { return strdup("from the library"); }
