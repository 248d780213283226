# Imports a history, repacks it with all the effort there is, checks it, and prints what does not
# depend on the number of threads.
set -e
export HOME="$PWD" GIT_CONFIG_NOSYSTEM=1
git init -q --bare repo
cd repo
git fast-import --quiet < ../history
git gc --aggressive --prune=now --quiet
git fsck --full --strict 2>&1
echo commits "$(git rev-list --count main)"
git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'
git log --format='%H %T %s' main | sha256sum
git archive main | sha256sum
