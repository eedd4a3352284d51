package gateway_test

import (
	"bufio"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
)

// corpus reads a file of the shared redirect corpora, without comments.
func corpus(t testing.TB, name string) []string {
	t.Helper()
	dir := os.Getenv("JUMPGATE_CORPORA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "corpora")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		if strings.Contains(os.Getenv("JUMPGATE_REQUIRE"), "corpora") {
			t.Fatal(err)
		}
		t.Skipf("the redirect corpora are not here (JUMPGATE_CORPORA): %v", err)
	}
	defer f.Close()
	var lines []string
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		if line := scanner.Text(); line != "" && !strings.HasPrefix(line, "# ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// browserPeers are wwwroots of each shape: with and without port and path.
func browserPeers(t testing.TB) []*gateway.Peer {
	var peers []*gateway.Peer
	for _, root := range []string{"https://sp.test", "http://sp.test:8090", "https://u.test/moodle", "https://www.whitelisteddomain.tld"} {
		peers = append(peers, &gateway.Peer{Wwwroot: wwwroot(t, root)})
	}
	return peers
}

// judge fails the test if a browser would resolve what was accepted to
// anything but a page below the peer's wwwroot.
func judge(t testing.TB, p *gateway.Peer, wantsurl string) {
	t.Helper()
	target, rule := gateway.ParseTarget(p, wantsurl)
	if target.URL() == "" {
		return
	}
	if path := target.String(); path[0] != '/' || strings.HasPrefix(path, "//") || strings.HasPrefix(path, `/\`) {
		t.Fatalf("%q was accepted by %s as %q", wantsurl, rule, path)
	}
	seen, err := whatwg.Parse(target.URL())
	if err != nil {
		t.Fatalf("%q was accepted by %s as %q, which no browser reads: %v", wantsurl, rule, target.URL(), err)
	}
	if got := seen.Href(false); got != target.URL() {
		t.Fatalf("%q was accepted by %s as %q, which a browser turns into %q", wantsurl, rule, target.URL(), got)
	}
	root := p.Wwwroot
	if origin := seen.Protocol() + "//" + seen.Host(); origin != root.Origin() || seen.Username()+seen.Password() != "" {
		t.Fatalf("%q was accepted by %s, and a browser goes to %q", wantsurl, rule, seen.Href(false))
	}
	if below := seen.Pathname(); !strings.HasPrefix(below, root.Path()+"/") {
		t.Fatalf("%q was accepted by %s, and a browser leaves the path: %q", wantsurl, rule, below)
	}
	parsed, err := url.Parse(target.URL())
	if err != nil || parsed.Scheme+"://"+parsed.Host != root.Origin() || parsed.User != nil {
		t.Fatalf("%q was accepted by %s, and net/url reads %v, %v", wantsurl, rule, parsed, err)
	}
	if again, _ := gateway.ParseTarget(p, target.String()); again != target {
		t.Fatalf("%q was accepted as %q, which decides to %q", wantsurl, target.URL(), again.URL())
	}
	if len(target.URL()) > 2048 { // as a wantsurl the wwwroot makes it too long
		return
	}
	if again, _ := gateway.ParseTarget(p, target.URL()); again != target {
		t.Fatalf("%q was accepted as %q, which decides to %q", wantsurl, target.URL(), again.URL())
	}
}

func TestNoPayloadLeavesThePeer(t *testing.T) {
	var payloads []string
	payloads = append(payloads, corpus(t, "oauth2-proxy-openredirects.txt")...)
	payloads = append(payloads, corpus(t, "moodle-concat-payloads.txt")...)
	for _, line := range corpus(t, "crafted-differentials.txt") {
		payload, err := strconv.Unquote(line)
		if err != nil {
			t.Fatal(err)
		}
		payloads = append(payloads, payload)
	}
	for _, line := range corpus(t, "cve-payloads.txt") {
		for field := range strings.FieldsSeq(line) {
			if payload, err := strconv.Unquote(field); err == nil {
				payloads = append(payloads, payload)
			}
		}
	}
	if len(payloads) < 600 {
		t.Fatalf("only %d payloads", len(payloads))
	}
	for _, payload := range payloads {
		for _, peer := range browserPeers(t) {
			for decoded, times := payload, 0; times < 3; times++ {
				judge(t, peer, decoded)
				next, err := url.PathUnescape(decoded)
				if err != nil {
					break
				}
				decoded = next
			}
		}
	}
}

func TestDeepLinksAreAcceptedUnchanged(t *testing.T) {
	for _, link := range corpus(t, "must-accept-deep-links.txt") {
		for _, peer := range browserPeers(t) {
			judge(t, peer, link)
			target, rule := gateway.ParseTarget(peer, link)
			if want := strings.ReplaceAll(link, "&amp;", "&"); target.URL() == "" || target.String() != want {
				t.Errorf("%q: %q by %s", link, target.URL(), rule)
			}
		}
	}
}

// FuzzParseTarget looks for an input that is accepted and yet leaves the
// peer's origin and path in the eyes of a browser or of net/url.
func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"", "/", "/mod/forum/discuss.php?d=12&amp;parent=34#p34", "https://sp.test/x", "//evil.test", `/\evil.test`, "/%2f/evil.test",
		"/a/%2e%2e/b", "/.//x", "/x?'\"<>#`{}|^", "/%25252f", "https://sp.test:443//x", "/\u00a0/é", "javascript:alert(1)", "@evil.test",
		"https://u.test/moodle/../x", "http://sp.test:8090/", "/..%2f", "/a/.%2E/", "/?&amp;amp;x", "/:80", "/#%", "/a;b=c/..;/",
		"/" + strings.Repeat("F", 2047), "/\"#" + strings.Repeat("F", 2040),
	} {
		f.Add(seed)
	}
	peers := browserPeers(f)
	f.Fuzz(func(t *testing.T, wantsurl string) {
		for _, peer := range peers {
			judge(t, peer, wantsurl)
		}
	})
}

// FuzzFind looks for a hostwwwroot that finds a peer although a browser would
// not go to that peer's origin.
func FuzzFind(f *testing.F) {
	for _, seed := range []string{"https://sp.test", "SP.TEST/", "http://sp.test:8090", "u.test/moodle/", "https://sp.test@evil.test", "https://sp。test", "sp.test."} {
		f.Add(seed)
	}
	peers := browserPeers(f)
	list := allowlist(f, peers...)
	f.Fuzz(func(t *testing.T, hostwwwroot string) {
		p := list.Find(hostwwwroot)
		if p == nil {
			return
		}
		spelled := hostwwwroot
		if !strings.Contains(spelled, "://") {
			spelled = p.Wwwroot.Scheme() + "://" + spelled
		}
		seen, err := whatwg.Parse(spelled)
		if err != nil || seen.Protocol()+"//"+seen.Host() != p.Wwwroot.Origin() {
			t.Fatalf("%q found %s, and a browser reads %v, %v", hostwwwroot, p.Wwwroot, seen, err)
		}
	})
}
