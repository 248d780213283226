# 24 MB of text that compresses somewhat.
my $x = 7;
for my $i (1 .. 1_000_000) {
    $x = ($x * 1103515245 + 12345) % 2147483648;
    printf "%08d %07x %s\n", $i, $x >> 3, ("alpha", "beta", "gamma")[$x % 3];
}
