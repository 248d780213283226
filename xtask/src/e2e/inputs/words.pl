# Hashes, arrays, sorting and regular expressions over 200,000 words.
use strict; use warnings;
my ($x, %count, @words) = (12345);
for my $i (1 .. 200_000) {
    $x = ($x * 1103515245 + 12345) % 2147483648;
    my $word = sprintf("w%05d", ($x >> 8) % 50_000);
    push @words, $word;
    $count{$word}++;
}
my @top = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "$_ $count{$_}\n" for @top[0 .. 9];
my $text = join ' ', @words;
my $sevens = () = $text =~ /w\d*77\d*/g;
my %index; push @{ $index{ substr $words[$_], 0, 3 } }, $_ for 0 .. $#words;
my $sum = 0; $sum += @{ $index{$_} } * length $_ for keys %index;
print "words ", scalar(@words), " different ", scalar(keys %count), " sevens $sevens sum $sum\n";
