#!/usr/bin/env bash
# Every recorded page, or those that are named, opens from disk in a browser: its plots are drawn and nothing is wider than the
# screen of a desk or of a phone. Where there is no Chromium (Debian: `chromium`), this is skipped and says so.
# With PAGES_OUT=DIRECTORY the screenshots are kept there.
set -euo pipefail
cd "$(dirname "$0")/.."
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "skipped: no Chromium to look at the pages with"; exit 0; }
shopt -s nullglob
pages=("$@")
[ $# -gt 0 ] || pages=(results/*/index.html)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=${PAGES_OUT:-$work}
chromium() {
  timeout 60 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" "$@" 2>/dev/null
}
failed=0
for page in "${pages[@]}"; do
  if grep -Eq '<script|(src|srcset)="|url\(|@import' "$page"; then echo "$page: not self-contained"; failed=1; fi
  for width in 1400 390; do
    # A window has a least width, a frame has none: the page is looked at through a frame as wide as the screen, as a script within
    # this one measures it.
    {
      echo "<!doctype html><meta charset=utf-8><body style='margin:0'><iframe id=page style='border:0;width:${width}px;height:900px' srcdoc=\""
      sed 's/&/\&amp;/g; s/"/\&quot;/g' "$page"
      cat <<'JS'
"></iframe><script>
page.onload = () => {
  const seen = page.contentDocument, wide = seen.documentElement.scrollWidth - page.clientWidth;
  const plots = [...seen.querySelectorAll("figure")].filter(figure => {
    const box = figure.querySelector("svg")?.getBoundingClientRect();
    return !box || box.height < 100 || figure.querySelectorAll("svg *").length < 10;
  });
  const images = [...seen.images].filter(image => !image.naturalWidth);
  const faults = [];
  if (wide > 0) faults.push(`${wide} pixels too wide`);
  if (plots.length) faults.push(`not drawn: ${plots.map(figure => figure.id)}`);
  if (images.length) faults.push(`${images.length} images missing`);
  if (!seen.querySelector("h1")) faults.push("no heading");
  document.body.append(Object.assign(document.createElement("p"), {textContent: `verdict: ${faults.join(", ") || "good"};`}));
};
</script>
JS
    } >"$work/frame.html"
    verdict=$(chromium --virtual-time-budget=5000 --dump-dom "file://$work/frame.html" | grep -o 'verdict: [^;<]*;' | tail -1 || true)
    echo "$page at $width pixels: ${verdict:-no verdict: the browser failed}"
    [ "$verdict" = "verdict: good;" ] || failed=1
    if [ "$out" != "$work" ]; then
      mkdir -p "$out"
      name=$(basename "$(dirname "$page")")-$width.png
      sed -i "s/height:900px/height:9000px/; s/<script>/<!--/; s/<\/script>/-->/" "$work/frame.html"
      chromium --window-size=$((width < 500 ? 500 : width)),9000 --screenshot="$out/$name" "file://$work/frame.html" || true
    fi
  done
done
echo "${#pages[@]} pages looked at"
exit $failed
