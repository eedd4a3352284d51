package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
)

// explain prints what becomes of a target on its way to a decision. Everything
// that a stranger may have written is escaped.
func explain(out io.Writer, k *checker, target string) {
	step := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-8s  %s\n", name, fmt.Sprintf(format, args...))
	}
	step("target", "%s", strconv.QuoteToASCII(target))
	site, q, rule := k.query(target)
	if rule != gateway.RuleOK {
		return // nothing was read of it
	}
	if q.Wantsurl != target {
		step("link", "hostwwwroot %s, hostid %s, wantsurl %s",
			strconv.QuoteToASCII(q.Hostwwwroot), strconv.QuoteToASCII(q.HostID), strconv.QuoteToASCII(q.Wantsurl))
	}
	step("bytes", "%s", describeBytes(q.Wantsurl))
	path, _, fragment := splitTarget(q.Wantsurl)
	for _, part := range []struct{ name, text string }{{"path", path}, {"fragment", fragment}} {
		for i, layer := range gateway.Layers(part.text, shownLayers)[1:] {
			step("layer", "%s with escapes taken off %d×: %s", part.name, i+1, strconv.QuoteToASCII(layer))
		}
	}
	d := k.judge(site, q)
	if d.Peer == nil {
		return
	}
	step("peer", "%s%s", d.Peer.Wwwroot, whose(site, d.Peer))
	base := d.Peer.Wwwroot.String() + "/"
	step("Go", "%s", resolvedByGo(base, q.Wantsurl))
	step("browser", "%s", resolvedByBrowser(base, q.Wantsurl))
	// What Moodle does with it (source: auth/mnet/land.php).
	step("glued", "to the wwwroot, unchecked: %s", resolvedByBrowser(base, d.Peer.Wwwroot.String()+q.Wantsurl))
}

// shownLayers is how many layers of escapes are shown: one more than the rules
// take off.
const shownLayers = 9

// conclusion prints the decision below what explain has said.
func conclusion(out io.Writer) func(verdict) error {
	return func(v verdict) error {
		_, err := fmt.Fprintf(out, "rule      %s: %s\n", v.Rule, v.Rule.Meaning())
		if err == nil && v.Location != "" {
			_, err = fmt.Fprintf(out, "%-8s  %s\n\n", v.Decision, v.Location)
		} else if err == nil {
			_, err = fmt.Fprintf(out, "%s\n\n", v.Decision)
		}
		return err
	}
}

func splitTarget(s string) (path, query, fragment string) {
	s, fragment, _ = strings.Cut(s, "#")
	path, query, _ = strings.Cut(s, "?")
	return path, query, fragment
}

// describeBytes says what there is in a target besides plain characters.
func describeBytes(s string) string {
	var controls, backslashes, escapes, high int
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x21 || c == 0x7f:
			controls++
		case c == '\\':
			backslashes++
		case c == '%':
			escapes++
		case c >= 0x80:
			high++
		}
	}
	return fmt.Sprintf("%d: below 0x21 or 0x7f %d, backslashes %d, percent signs %d, outside ASCII %d", len(s), controls, backslashes, escapes, high)
}

func whose(site *config.Site, p *gateway.Peer) string {
	if p.Wwwroot == site.Wwwroot {
		return " (the site itself)"
	}
	return ""
}

// resolvedByGo says what net/url makes of a reference on a page of the peer.
func resolvedByGo(base, ref string) string {
	at, err := url.Parse(base)
	if err == nil {
		var to *url.URL
		if to, err = at.Parse(ref); err == nil {
			return fmt.Sprintf("host %s, path %s: %s", strconv.QuoteToASCII(to.Host), strconv.QuoteToASCII(to.Path), inASCII(to.String()))
		}
	}
	if parse, ok := errors.AsType[*url.Error](err); ok {
		err = parse.Err
	}
	return "does not read it: " + inASCII(err.Error())
}

// resolvedByBrowser is resolvedByGo for a browser (WHATWG URL standard).
func resolvedByBrowser(base, ref string) string {
	to, err := whatwg.ParseRef(base, ref)
	if err != nil {
		return "does not read it"
	}
	return fmt.Sprintf("host %s, path %s: %s", strconv.QuoteToASCII(to.Host()), strconv.QuoteToASCII(to.Pathname()), inASCII(to.Href(false)))
}
