package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

// payload returns the claims of a signed link.
func payload(link string) string {
	parts := strings.Split(link, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[len(parts)-2])
	if err != nil {
		return err.Error()
	}
	return string(claims)
}

// TestARevokedLinkNeverComesBack revokes links that end later than any home
// accepts today, in every way and twice.
func TestARevokedLinkNeverComesBack(t *testing.T) {
	r, dir := startRedis(t), t.TempDir()
	write := func(name, own, peer, more string) string {
		file := filepath.Join(dir, name)
		text := fmt.Sprintf("state_dir: %s\n%ssites: [{wwwroot: %q, upstream: \"http://127.0.0.1:1\", identity: {source: moodle-web}, unsigned_jumps: refuse, peers: [{wwwroot: %q}]}]\n",
			name+".state", more, own, peer)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	home := write("home.yaml", "https://home.test", "https://forum.test", "redis: {url: \""+r.url()+"\"}\n")
	forum := write("forum.yaml", "https://forum.test", "https://home.test", "")
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := (&terminal{ctx: t.Context(), stdout: &out, stderr: &errs}).run(args)
		return code, out.String() + errs.String()
	}
	sign := func(life string, more ...string) string {
		code, out := run(append([]string{"link", "-c", forum, "--sign", "--home", "https://home.test", "--expires", life, "/x"}, more...)...)
		if code != 0 {
			t.Fatal(out)
		}
		link, _, _ := strings.Cut(out, "\n") // what comes after it is a warning
		return link
	}
	if link := sign("1h", "--user", "ADA"); !strings.Contains(payload(link), `"sub":"`+gateway.LinkSubject(wwwroot(t, "https://home.test"), "ada")+`"`) {
		t.Errorf("a username in capitals: %s", payload(link))
	}
	long := sign("400d")
	for _, links := range [][]string{{long}, {"ABC"}, {"link=ABC"}, {sign("1h"), long}} {
		r.Client.FlushAll(t.Context())
		if code, out := run(append([]string{"link", "revoke", "-c", home}, links...)...); code != 0 {
			t.Fatal(out)
		}
		keys := r.Client.Keys(t.Context(), "*revoked:*").Val()
		if len(keys) != len(links) {
			t.Errorf("%q: %q", links, keys)
		}
		for _, key := range keys {
			if life := r.Client.PTTL(t.Context(), key).Val(); life < 399*24*time.Hour {
				t.Errorf("%.20q is revoked for %s", links, life)
			}
		}
	}
	run("link", "revoke", "-c", home, "ABC")
	run("link", "revoke", "-c", home, "link=ABC")
	if n := len(r.Client.Keys(t.Context(), "*revoked:*").Val()); n != 3 {
		t.Errorf("an id in the words of the log is another one: %d", n)
	}
	for _, id := range []string{"AB C", `A\"B`, "", "é"} {
		if code, out := run("link", "revoke", "-c", home, id); code != 1 || !strings.Contains(out, "is no id of a link") {
			t.Errorf("%q: %d %s", id, code, out)
		}
	}
}

// TestALinkForSomebodyIsSignedForThem makes links for learners whom the site
// knows under other names than their homes do.
func TestALinkForSomebodyIsSignedForThem(t *testing.T) {
	r, dir := startRedis(t), t.TempDir()
	file := filepath.Join(dir, "forum.yaml")
	writeFile(t, file, fmt.Sprintf(`state_dir: state
redis: {url: %q}
sites:
  - wwwroot: https://forum.test
    upstream: http://127.0.0.1:1
    identity: {source: moodle-web}
    landing: header
    mail: {learn: ["https://other.test"]}
    peers:
      - {wwwroot: "https://home.test", publish: [sso_sp], subscribe: [sso_idp]}
      - {wwwroot: "https://other.test", publish: [sso_sp], subscribe: [sso_idp]}
`, r.url()))
	run := func(args ...string) (code int, out, errs string) {
		var stdout, stderr bytes.Buffer
		code = (&terminal{ctx: t.Context(), stdout: &stdout, stderr: &stderr}).run(append([]string{"link", "-c", file}, args...))
		return code, stdout.String(), stderr.String()
	}
	subject := func(home, username string) string {
		return `"sub":"` + gateway.LinkSubject(wwwroot(t, home), username) + `"`
	}
	if code, out, errs := run("--sign", "--user", "M_-fc-ller@home.test", "/x"); code != 0 || errs != "" || !strings.HasPrefix(out, "https://home.test/") ||
		!strings.Contains(payload(out), subject("https://home.test", "müller")) {
		t.Errorf("an account's name: %d %s%s %s", code, out, errs, payload(out))
	}

	// Who has landed from a home is known to be there, and not by which name.
	if code, out, errs := run("--user", "grace@mail.example", "/x"); code != 1 || out != "" || !strings.Contains(errs, "an address that was learned from a landing at one of mail: {learn: …}") {
		t.Errorf("nobody's address: %d %s%s", code, out, errs)
	}
	d, err := siteFlags{Config: file}.open(&terminal{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := learnedBy(d.site, d.keys, d.state).Learn(t.Context(), d.site.Peers.Find("https://other.test"), "grace@mail.example"); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run("--sign", "--user", "Grace@mail.example", "/x")
	if code != 0 || !strings.HasPrefix(out, "https://other.test/") || strings.Contains(payload(out), `"sub"`) || !strings.Contains(errs, "signed for everybody") {
		t.Errorf("a learned address: %d %s%s %s", code, out, errs, payload(out))
	}
	r.stop()
	if code, out, errs := run("--user", "grace@mail.example", "/x"); code != 1 || out != "" || !strings.Contains(errs, "is Redis up?") {
		t.Errorf("without Redis: %d %s%s", code, out, errs)
	}
	if code, _, errs := run("--user", "bob@home.test", "/x"); code != 0 {
		t.Errorf("without Redis, an account's name: %s", errs)
	}
}
