package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jumpgate/gateway/config"
	"jumpgate/idp"
	"jumpgate/idp/openidtest"
)

// cookieSite is a gateway of a home, asked without a network.
type cookieSite struct {
	*instance
	root, peer string
	cookies    []string // all that it has set
	seen       []string // Cookie fields that the Moodle behind got
}

// newCookieSite starts the gateway of a home whose accounts are at a provider.
// The Moodle behind lets everybody land, and sets cookies with our names.
func newCookieSite(t *testing.T, root string) *cookieSite {
	t.Helper()
	s := &cookieSite{root: root, peer: "https://forum.invalid"}
	name := wwwroot(t, root).CookieName("home")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.seen = append(s.seen, r.Header.Get("Cookie"))
		w.Header().Add("Set-Cookie", "MoodleSession="+strings.Repeat("m", 26))
		for _, ours := range []string{name, strings.TrimPrefix(name, "__Host-"), strings.ToUpper(name), " " + name, "=" + name, "__Secure-" + strings.TrimPrefix(name, "__Host-")} {
			w.Header().Add("Set-Cookie", ours+"=moodles; Path=/")
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}))
	t.Cleanup(upstream.Close)
	client := openidtest.Client{ID: "jumpgate", Secret: "0123456789abcdef", Callback: root + idp.CallbackPath}
	p := openidtest.Start(t, client, openidtest.Behaviour{Claims: map[string]any{
		"preferred_username": "ada", "given_name": "Ada", "family_name": "Lovelace", "email": "ada@college.example",
	}})
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "secret"), client.Secret)
	file := filepath.Join(dir, "jumpgate.yaml")
	writeFile(t, file, fmt.Sprintf(`
admin: {listen: "off"}
state_dir: state
sites:
  - wwwroot: %s
    upstream: %s
    identity: {source: oidc, issuer: %q, client_id: jumpgate, client_secret_file: secret}
    peers: [{wwwroot: %q, fingerprint: "SHA256:%064x"}]
`, root, upstream.URL, p.Issuer, s.peer, 1))
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if s.instance, err = newInstance(context.Background(), c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// get asks for a page below the wwwroot, or an address.
func (s *cookieSite) get(path string, cookies ...string) *httptest.ResponseRecorder {
	if strings.HasPrefix(path, "/") {
		path = s.root + path
	}
	r := httptest.NewRequest("GET", path, nil)
	if len(cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(cookies, "; "))
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	for _, line := range w.Header()["Set-Cookie"] {
		if !strings.HasPrefix(line, "MoodleSession=") {
			s.cookies = append(s.cookies, line)
		}
	}
	return w
}

// jumps takes a learner to the forum, with cookies that the browser has.
func (s *cookieSite) jumps(t *testing.T, cookies ...string) (first *httptest.ResponseRecorder) {
	t.Helper()
	first = s.get("/auth/mnet/jump.php?hostwwwroot="+s.peer+"&wantsurl=/x", cookies...)
	if to := first.Header().Get("Location"); strings.HasPrefix(to, s.peer) {
		return first
	}
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", first.Header().Get("Location"), nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for _, c := range first.Result().Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if w := s.get(res.Header.Get("Location"), cookies...); !strings.HasPrefix(w.Header().Get("Location"), s.peer+"/") {
		t.Fatalf("the login ends with %d %v\n%s", w.Code, w.Header(), w.Body)
	}
	return first
}

func TestCookiesOfOursAreNobodyElses(t *testing.T) {
	var names []string
	for _, root := range []string{"https://home.test", "https://home.test/moodle", "https://home.test:8443", "http://localhost", "http://localhost:8080/moodle"} {
		s := newCookieSite(t, root)
		s.jumps(t)
		s.get("/auth/mnet/land.php?token=x&idp=" + s.peer + "&wantsurl=/")
		kinds := map[string]bool{}
		for _, line := range s.cookies {
			c, err := http.ParseSetCookie(line)
			if err != nil {
				t.Fatalf("%s: %q: %v", root, line, err)
			}
			secure := strings.HasPrefix(root, "https:")
			bare, prefixed := strings.CutPrefix(c.Name, "__Host-")
			if prefixed != secure || c.Secure != secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Value == "moodles" {
				t.Errorf("%s: %s", root, line)
			}
			kind, _, _ := strings.Cut(strings.TrimPrefix(bare, "jumpgate-"), "-")
			if !kinds[kind] {
				names = append(names, c.Name)
			}
			kinds[kind] = true
		}
		for _, kind := range []string{"browser", "login", "home"} {
			if !kinds[kind] {
				t.Errorf("%s: no cookie %s", root, kind)
			}
		}
		if len(kinds) != 3 {
			t.Errorf("%s: cookies %v", root, kinds)
		}
	}
	slices.Sort(names)
	if len(names) != 15 || len(slices.Compact(names)) != 15 {
		t.Errorf("names meet: %q", names)
	}
}

func TestMoodleNeitherSeesNorSetsCookiesOfOurs(t *testing.T) {
	for _, root := range []string{"https://home.test", "http://localhost"} {
		s := newCookieSite(t, root)
		s.jumps(t)
		var pairs []string
		for _, line := range s.cookies {
			pair, _, _ := strings.Cut(line, ";")
			pairs = append(pairs, pair)
		}
		s.seen = nil
		w := s.get("/my/", append(pairs, "MoodleSession=m")...)
		if want := []string{"MoodleSession=m"}; !slices.Equal(s.seen, want) {
			t.Errorf("%s: Moodle sees %q", root, s.seen)
		}
		if got := w.Header()["Set-Cookie"]; !slices.Equal(got, []string{"MoodleSession=" + strings.Repeat("m", 26)}) {
			t.Errorf("%s: Moodle sets %q", root, got)
		}
	}
}

// A cookie without the prefix can be set by any host of the domain.
func TestOnAnHTTPSSiteACookieWithoutThePrefixIsNone(t *testing.T) {
	s := newCookieSite(t, "https://home.test")
	s.jumps(t)
	var login *http.Cookie
	for _, line := range s.cookies {
		if c, err := http.ParseSetCookie(line); err == nil && strings.Contains(c.Name, "-login-") {
			login = c
		}
	}
	if login == nil {
		t.Fatalf("no login among %q", s.cookies)
	}
	if to := s.jumps(t, login.Name+"="+login.Value).Header().Get("Location"); !strings.HasPrefix(to, s.peer+"/") {
		t.Fatalf("the login is not remembered: %s", to)
	}
	bare := strings.TrimPrefix(login.Name, "__Host-")
	for _, name := range []string{bare, "__Secure-" + bare, "__host-" + bare, strings.ToUpper(login.Name)} {
		if to := s.jumps(t, name+"="+login.Value).Header().Get("Location"); strings.HasPrefix(to, s.peer+"/") {
			t.Errorf("%s logs somebody in", name)
		}
	}
}
