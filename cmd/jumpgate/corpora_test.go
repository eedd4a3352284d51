package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
)

// mustAccept is the list of links that must arrive unchanged. All others hold
// what must not lead outside.
const mustAccept = "must-accept-deep-links.txt"

// corpusFiles returns the files of the shared corpora, or skips the test where
// they are not.
func corpusFiles(t *testing.T) []string {
	t.Helper()
	dir := cmp.Or(os.Getenv("JUMPGATE_CORPORA"), filepath.Join("..", "..", "..", "shared", "corpora"))
	files, err := filepath.Glob(filepath.Join(dir, "*.t[xs][tv]"))
	if err == nil && len(files) > 0 {
		return files
	}
	if strings.Contains(os.Getenv("JUMPGATE_REQUIRE"), "corpora") {
		t.Fatalf("no redirect corpora in %s: %v", dir, err)
	}
	t.Skip("the redirect corpora are not here (JUMPGATE_CORPORA)")
	return nil
}

// corpora returns the targets of the shared corpora by file.
func corpora(t *testing.T) map[string][]string {
	t.Helper()
	all, n := map[string][]string{}, 0
	for _, file := range corpusFiles(t) {
		entries, err := readCorpus(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all[filepath.Base(file)] = append(all[filepath.Base(file)], e.text)
		}
		n += len(entries)
	}
	if n < 700 || len(all[mustAccept]) < 14 {
		t.Fatalf("only %d targets", n)
	}
	return all
}

// corpusPeers are wwwroots of each shape, and the host that a corpus takes for
// an allowed one. None of them exists.
var corpusPeers = []string{"https://sp.test", "http://sp.test:8090", "https://u.test/moodle", "https://www.whitelisteddomain.tld"}

// TestNoTargetOfTheCorporaIsASurprise lets the command try them.
func TestNoTargetOfTheCorporaIsASurprise(t *testing.T) {
	files := corpusFiles(t)
	for _, peer := range corpusPeers {
		for _, file := range files {
			args := []string{"check", "--peer", peer, "--corpus", file}
			switch filepath.Base(file) {
			case mustAccept:
				args = append(args, "--accept")
			case "cve-payloads.txt":
				args = append(args, "--refuse")
			}
			var out, errs strings.Builder
			if code := (&terminal{ctx: t.Context(), stdout: &out, stderr: &errs}).run(args); code != 0 {
				t.Errorf("%q ended with %d:\n%s%s", args, code, &out, &errs)
			}
		}
	}
}

// emitted is a Location of the running gateway.
type emitted struct {
	peer     gateway.Wwwroot
	location string
	wantsurl string // in it
}

// TestNoTargetOfTheCorporaLeavesTheAllowlist sends everything in the corpora,
// as it is and with escapes taken off once and twice, to a running gateway.
// Then a real browser follows every Location that came back, to peers that
// glue wantsurl to their wwwroot unchecked, as Moodle's land.php does.
func TestNoTargetOfTheCorporaLeavesTheAllowlist(t *testing.T) {
	files := corpora(t)
	f := corpusFederation(t)
	locations, requests := map[string]emitted{}, 0
	for _, file := range slices.Sorted(maps.Keys(files)) {
		for _, target := range files[file] {
			for _, root := range corpusPeers {
				peer := wwwroot(t, root)
				for layers, form := range gateway.Layers(target, 2) {
					for _, raw := range []bool{false, true} {
						e, asked := f.send(t, peer, form, raw)
						if asked {
							requests++
						}
						if e.location != "" {
							locations[root+" "+e.wantsurl] = e
						}
						if want := strings.ReplaceAll(target, "&amp;", "&"); file == mustAccept && layers == 0 && !raw && e.wantsurl != want {
							t.Errorf("%s: %q arrives as %q", root, target, e.wantsurl)
						}
					}
				}
			}
		}
	}
	if requests < 5000 || len(locations) < 100 {
		t.Fatalf("only %d requests and %d different Locations", requests, len(locations))
	}
	t.Logf("%d requests, %d different Locations, none of which leaves the allowlist", requests, len(locations))
	t.Run("in Chromium", func(t *testing.T) { followInBrowser(t, slices.Collect(maps.Values(locations))) })
}

// corpusSite is a federation in which a learner is logged in.
type corpusSite struct {
	*federation
	v *visitor
}

func corpusFederation(t *testing.T) *corpusSite {
	const pinned = "insecure_http: true, fingerprint: 'SHA256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'"
	var peers []string
	for _, root := range corpusPeers {
		peers = append(peers, fmt.Sprintf("- {wwwroot: %q, %s}", root, pinned))
	}
	f := &corpusSite{federation: newFederation(t, setting{
		identity: "{source: moodle-web}", peers: strings.Join(peers, "\n      "), limits: "{jumps_per_user: off, jumps_per_address: off}",
	})}
	f.v = newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
	f.v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return f
}

// send follows a jump link with a target, escaped as a link has it or raw. It
// fails the test if the answer leads anywhere but to the landing of the peer,
// with a page of the peer. Not every target can be sent raw.
func (f *corpusSite) send(t *testing.T, peer gateway.Wwwroot, target string, raw bool) (e emitted, asked bool) {
	t.Helper()
	value := url.QueryEscape(target)
	if raw {
		if value = target; strings.ContainsFunc(target, func(c rune) bool { return c <= 0x20 || c == 0x7f || c == '#' }) {
			return emitted{}, false
		}
	}
	r, err := http.NewRequest("GET", f.IDP+"/auth/mnet/jump.php", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.RawQuery = "hostwwwroot=" + url.QueryEscape(peer.String()) + "&wantsurl=" + value
	r.Header.Set("User-Agent", "Mozilla/5.0 (visitor)")
	res, err := f.v.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	sent := res.Header["Location"]
	if res.Header.Get("Refresh") != "" || res.Header.Get("Content-Location") != "" || (res.StatusCode == http.StatusSeeOther) != (len(sent) == 1) || len(sent) > 1 {
		t.Fatalf("%q: %s %v", target, res.Status, res.Header)
	}
	if len(sent) == 0 {
		if res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", target, res.Status)
		}
		return emitted{}, true
	}
	e = emitted{peer: peer, location: sent[0]}
	seen, err := whatwg.Parse(e.location)
	if err != nil || seen.Href(false) != e.location || seen.Protocol()+"//"+seen.Host() != peer.Origin() || seen.Pathname() != peer.Path()+"/auth/mnet/land.php" {
		t.Fatalf("%q leads to %q", target, e.location)
	}
	query, err := url.ParseQuery(strings.TrimPrefix(seen.Search(), "?"))
	if err != nil || len(query) != 3 || len(query["wantsurl"]) != 1 {
		t.Fatalf("%q leads to %q", target, e.location)
	}
	e.wantsurl = query.Get("wantsurl")
	if !atPeer(peer, peer.String()+e.wantsurl) {
		t.Fatalf("%q lands on %q", target, e.wantsurl)
	}
	return e, true
}

// atPeer reports whether a browser reads an address as a page of the peer.
func atPeer(peer gateway.Wwwroot, address string) bool {
	seen, err := whatwg.Parse(address)
	return err == nil && seen.Username()+seen.Password() == "" &&
		seen.Protocol()+"//"+seen.Host() == peer.Origin() && strings.HasPrefix(seen.Pathname(), peer.Path()+"/")
}

// everywhereElse stands for all of the Web, and keeps who was visited.
type everywhereElse struct {
	mu      sync.Mutex
	visited map[string]int // origins that pages were asked of
}

func (e *everywhereElse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	origin := "http://" + r.Host
	if r.TLS != nil {
		origin = "https://" + r.Host
	}
	if r.Header.Get("Upgrade-Insecure-Requests") != "" { // a page, not the picture of a tab
		e.mu.Lock()
		e.visited[origin]++
		e.mu.Unlock()
	}
	if root, ok := strings.CutSuffix(r.URL.Path, "/auth/mnet/land.php"); ok && r.URL.Query().Has("token") {
		w.Header().Set("Location", origin+root+r.URL.Query().Get("wantsurl"))
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprint(w, "<!doctype html><title>arrived</title>arrived")
}

// followInBrowser lets Chromium, to which all names are this machine, navigate
// to all addresses, and looks where it is then.
func followInBrowser(t *testing.T, all []emitted) {
	web := &everywhereElse{visited: map[string]int{}}
	plain, secure := httptest.NewServer(web), httptest.NewTLSServer(web)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	ctx := browser(t, chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP *:443 127.0.0.1:"+port(secure)+", MAP * 127.0.0.1:"+port(plain)))
	for _, e := range all {
		if err := chromedp.Do(ctx, chromedp.Navigate(e.location)); err != nil {
			t.Fatalf("%s: %v", e.location, err)
		}
		at, err := chromedp.Run(ctx, chromedp.Location())
		if err != nil {
			t.Fatal(err)
		}
		if !atPeer(e.peer, at) {
			t.Errorf("%s ends at %s", e.location, at)
		}
		if want := e.peer.String() + e.wantsurl; at != want {
			t.Errorf("%s ends at %s, not %s", e.location, at, want)
		}
	}
	for origin, pages := range web.visited {
		if !slices.ContainsFunc(corpusPeers, func(root string) bool { return strings.HasPrefix(root+"/", origin+"/") }) {
			t.Errorf("%d pages were asked of %s", pages, origin)
		}
	}
	if len(web.visited) != len(corpusPeers) {
		t.Errorf("pages were asked of %v", web.visited)
	}
	t.Logf("Chromium followed %d Locations and stayed at the peers: %v", len(all), web.visited)
}
