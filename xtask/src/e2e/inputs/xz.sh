# Compresses with four threads, decompresses, compares. The block size is fixed, so the result is too.
set -e
perl data.pl > data
xz -T4 -2 --block-size=2MiB -c data > data.xz
xz -dc data.xz | cmp - data
echo same
sha256sum < data.xz
xz -T4 -t data.xz
echo tested
