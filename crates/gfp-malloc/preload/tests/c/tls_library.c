#include "check.h"
__thread char block[100000] = {1};
__thread char *mine;
int touch(int i);
int touch(int i) { /* __tls_get_addr allocates the block with malloc or calloc */
    block[i] = (char)i;
    mine = realloc(mine, 1000 + i);
    mine[0] = block[0];
    char got = block[i];
    free(mine);
    mine = NULL;
    return got == (char)i;
}
