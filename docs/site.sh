#!/usr/bin/env bash
# docs/site.sh: this folder as a site, in target/site (mdbook 0.5). Pages are those of SUMMARY.md, and
# every decision behind docs/design.md. Fails on a link of the site that leads nowhere.
set -euo pipefail
cd "$(dirname "$0")/.."
source=target/site-source
rm -rf "$source" target/site
PROCRING_WRITE_DOCS=1 cargo test --quiet --test docs the_page_of_the_api
mkdir -p "$source"
cp -r docs "$source/src"
for page in docs/design/*.md; do
    title=$(sed -n '1s/^# //p' "$page")
    printf '    - [%s](design/%s)\n' "$title" "${page##*/}"
done >"$source/decisions"
sed -i "/(design.md)/r $source/decisions" "$source/src/SUMMARY.md"
cat >"$source/book.toml" <<'BOOK'
[book]
title = "procring"
description = "A process API server for sandboxes"
language = "en"
[build]
build-dir = "../site"
create-missing = false
[output.html]
no-section-label = true
smart-punctuation = false
BOOK
mdbook build "$source"
python3 - target/site <<'CHECK'
import html.parser, pathlib, sys, urllib.parse

site = pathlib.Path(sys.argv[1]).resolve()
dead, links = [], 0

class Page(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        global links
        for name, target in attributes:
            parsed = urllib.parse.urlparse(target or "")
            if name not in ("href", "src") or parsed.scheme or parsed.netloc or not parsed.path:
                continue
            links += 1
            if not (self.folder / urllib.parse.unquote(parsed.path)).exists():
                dead.append(f"{self.name}: {target}")

for path in site.rglob("*.html"):
    # These two are laid anywhere, or nowhere.
    if path.name in ("404.html", "toc.html"):
        continue
    page = Page()
    page.folder, page.name = path.parent, path.relative_to(site)
    page.feed(path.read_text())
print(f"{links} links in {site}")
sys.exit("\n".join(dead) if dead else 0)
CHECK
