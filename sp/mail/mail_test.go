package mail_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-message"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"jumpgate/gateway"
	"jumpgate/sp/mail"
)

var update = flag.Bool("update", false, "write testdata/*.want anew")

func wwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The forum whose mails are rewritten, as its people's home knows it.
func forum(t testing.TB) *gateway.Peer {
	return &gateway.Peer{
		Wwwroot:     wwwroot(t, "https://forum.example.net"),
		Aliases:     []gateway.Wwwroot{wwwroot(t, "http://forum.example.net"), wwwroot(t, "https://old.example.net/moodle")},
		Application: gateway.Moodle,
		Publish:     []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	}
}

func rewriter(t testing.TB) *mail.Rewriter {
	site := forum(t)
	return mail.NewRewriter(site.Wwwroot, site.Aliases, &gateway.Peer{Wwwroot: wwwroot(t, "https://home.example.org"), Application: gateway.Moodle})
}

func rewrite(t testing.TB, in []byte) ([]byte, mail.Result) {
	t.Helper()
	var out bytes.Buffer
	result, err := rewriter(t).Rewrite(&out, bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), result
}

// corpus returns the mails of testdata by name.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(names) < 30 {
		t.Fatal(names, err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".eml")] = b
	}
	return all
}

// links is how many links of each mail of the corpus lead through the home.
var links = map[string]int{
	"text": 12, "text-lf": 12, "no-mime": 1, "text-utf8-8bit": 5, "text-latin1": 1, "text-flowed": 2, "text-delsp": 0, "text-utf16": 0,
	"text-long-lines": 2, "text-quoted-printable": 17, "text-quoted-printable-sloppy": 3, "text-base64": 22, "text-base64-narrow": 5,
	"text-base64-broken": 0, "html": 8, "html-quoted-printable": 8, "html-base64": 8, "alternative": 21, "one-click": 1, "nested": 11,
	"dkim": 0, "arc": 0, "smime": 0, "encrypted": 0, "malformed-header": 0, "malformed-type": 0, "no-boundary": 0, "pipe": 1, "no-end": 1,
	"empty": 0, "mixed-line-ends": 3,
}

func TestMailsOfTheCorpusComeOutAsTheyShould(t *testing.T) {
	for name, in := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			out, result := rewrite(t, in)
			if want, ok := links[name]; !ok || result.Links != want {
				t.Errorf("%d links were changed, not %d", result.Links, want)
			}
			golden := filepath.Join("testdata", name+".want")
			if *update && result.Links > 0 {
				if err := os.WriteFile(golden, out, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if result.Links == 0 {
				want, err = in, nil
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.SplitAfter(string(want), "\n"), strings.SplitAfter(string(out), "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			again, twice := rewrite(t, out)
			if twice.Links != 0 || !bytes.Equal(again, out) {
				t.Errorf("a second time %d links are changed", twice.Links)
			}
		})
	}
}

func TestWhyAMailIsLeftAlone(t *testing.T) {
	all := corpus(t)
	for name, want := range map[string]string{
		"dkim": mail.UntouchedSigned, "arc": mail.UntouchedSigned,
		"malformed-header": mail.UntouchedMalformed, "malformed-type": mail.UntouchedMalformed,
		"text": "", "smime": "", "empty": "",
	} {
		if _, result := rewrite(t, all[name]); result.Untouched != want {
			t.Errorf("%s: %q, not %q", name, result.Untouched, want)
		}
	}
}

func TestABodyWhoseHeaderCountsItsBytesStays(t *testing.T) {
	for _, field := range []string{"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==", "content-length : 40"} {
		const text = "\r\n\r\nhttps://forum.example.net/my/\r\n"
		for in, want := range map[string]int{
			field + text: 0,
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + field + text + "--b\r\nX: y" + text + "--b--\r\n":              1,
			"Content-Type: multipart/mixed; boundary=b\r\n" + field + "\r\n\r\n--b\r\nX: y" + text + "--b\r\nX: y" + text + "--b--\r\n": 0,
		} {
			if _, result := rewrite(t, []byte(in)); result.Links != want {
				t.Errorf("%q: %d links", in, result.Links)
			}
		}
	}
}

func TestAMailThatComesByteByByteComesOutTheSame(t *testing.T) {
	for name, in := range corpus(t) {
		want, _ := rewrite(t, in)
		var got bytes.Buffer
		if _, err := rewriter(t).Rewrite(&got, iotest.OneByteReader(bytes.NewReader(in))); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: %v, %d bytes and not %d", name, err, got.Len(), len(want))
		}
	}
}

// part is a part of a mail as go-message reads it.
type part struct {
	path   []int
	header string
	body   string // decoded
	html   bool
}

func parts(t testing.TB, text []byte) []part {
	t.Helper()
	entity, err := message.Read(bytes.NewReader(text))
	if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
		return nil // nobody can tell what it says
	}
	var all []part
	err = entity.Walk(func(path []int, e *message.Entity, err error) error {
		if err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err) {
			return err
		}
		p := part{path: path}
		for fields := e.Header.Fields(); fields.Next(); {
			p.header += fields.Key() + ": " + fields.Value() + "\n"
		}
		kind, _, _ := e.Header.ContentType()
		if p.html = kind == "text/html"; !strings.HasPrefix(kind, "multipart/") {
			body, _ := io.ReadAll(e.Body)
			p.body = string(body)
		}
		all = append(all, p)
		return nil
	})
	if err != nil {
		t.Logf("go-message gives up: %v", err)
	}
	return all
}

var jumpLink = regexp.MustCompile(`^https://home\.example\.org(/auth/mnet/jump\.php)\?([\w.%+&;=-]*)`)

// same compares what a text said and says now. They may differ in links
// alone, and each must lead where the one before pointed, by the decision of the
// home, which is that of jumpgate check. It returns how many differ.
func same(t *testing.T, before, now string, isHTML bool) (changed int) {
	t.Helper()
	peers, err := gateway.NewAllowlist(forum(t))
	if err != nil {
		t.Fatal(err)
	}
	meant := func(s string) string {
		if !isHTML || strings.Contains(s, `"`) {
			return strings.ReplaceAll(s, " ", "") // of a folded header
		}
		z := html.NewTokenizer(strings.NewReader(`<a href="` + s + `">`)) // where &copy= is no sign
		z.Next()
		z.TagName()
		_, value, _ := z.TagAttr()
		return string(value)
	}
	for before != "" || now != "" {
		link := jumpLink.FindStringSubmatch(now)
		if link == nil || strings.HasPrefix(before, link[0]) {
			if before == "" || now == "" || before[0] != now[0] {
				t.Fatalf("not only links differ: %.100q was %.100q", now, before)
			}
			before, now = before[1:], now[1:]
			continue
		}
		q, rule := gateway.ParseQuery(meant(link[2]))
		if rule != gateway.RuleOK {
			t.Fatalf("%s: %s", link[0], rule)
		}
		d := gateway.Decide(peers, q, time.Now())
		if !d.Allow {
			t.Fatalf("%s is refused: %s", link[0], d.Rule)
		}
		// What stood there is the longest that is followed by what follows now.
		now = now[len(link[0]):]
		n := min(len(before), 4096)
		for ; n > 0; n-- {
			page, rule := gateway.ParseTarget(forum(t), meant(before[:n]))
			if rule == gateway.RulePeerURL && page.URL() == d.Target.URL() && (now == "") == (len(before) == n) && (now == "" || before[n] == now[0]) {
				break
			}
		}
		if n == 0 {
			t.Fatalf("%s leads to %s, which is not where this pointed: %.100q", link[0], d.Target.URL(), before)
		}
		before = before[n:]
		changed++
	}
	return changed
}

func TestOnlyLinksChangeAndTheyLeadWhereTheyPointed(t *testing.T) {
	for name, in := range corpus(t) {
		t.Run(name, func(t *testing.T) {
			out, result := rewrite(t, in)
			before, now := parts(t, in), parts(t, out)
			if len(before) != len(now) {
				t.Fatalf("%d parts became %d", len(before), len(now))
			}
			changed := 0
			for i := range before {
				if diff := cmp.Diff(before[i].path, now[i].path); diff != "" {
					t.Error(diff)
				}
				changed += same(t, before[i].header, now[i].header, false) + same(t, before[i].body, now[i].body, before[i].html)
			}
			if before != nil && changed != result.Links {
				t.Errorf("%d links differ, and %d are said to have been changed", changed, result.Links)
			}
		})
	}
}

func TestAHomeBelowTheSiteKeepsItsLinks(t *testing.T) {
	site := wwwroot(t, "https://example.net")
	w := mail.NewRewriter(site, nil, &gateway.Peer{Wwwroot: wwwroot(t, "https://example.net/home"), Application: gateway.Moodle})
	in := "\r\nhttps://example.net/homepage https://example.net/home/my/\r\n"
	for range 2 { // what was changed stays
		var out strings.Builder
		_, err := w.Rewrite(&out, strings.NewReader(in))
		in = out.String()
		want := "\r\nhttps://example.net/home/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fexample.net&wantsurl=%2Fhomepage https://example.net/home/my/\r\n"
		if err != nil || out.String() != want {
			t.Errorf("%q, %v", &out, err)
		}
	}
}

func TestAMailThatCannotBeReadToItsEndComesOutAsFarAsItCame(t *testing.T) {
	for name, in := range corpus(t) {
		for _, n := range []int{0, len(in) / 3, len(in) / 2, len(in)} {
			var out bytes.Buffer
			_, err := rewriter(t).Rewrite(&out, io.MultiReader(bytes.NewReader(in[:n]), iotest.ErrReader(io.ErrClosedPipe)))
			if _, ok := errors.AsType[*mail.ReadError](err); !ok || !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%s: %v", name, err)
			}
			if want, _ := rewrite(t, in[:n]); !bytes.Equal(out.Bytes(), want) {
				t.Errorf("%s: of %d bytes, %d came out", name, n, out.Len())
			}
		}
	}
}
