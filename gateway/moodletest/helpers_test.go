package moodletest

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

// recorded reads the raw sessdata field of a real session and takes the outer
// serialisation off.
func recorded(t *testing.T, state string) *phpArray {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "sessions", state+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := parsePHP(string(b))
	if err != nil {
		t.Fatal(err)
	}
	vars, err := parseSession(v.(string))
	if err != nil {
		t.Fatal(err)
	}
	return vars
}

func keys(a *phpArray) []string {
	var names []string
	for _, p := range a.pairs {
		names = append(names, p.key.(string))
	}
	return names
}

func mustWwwroot(t testing.TB, s string) gateway.Wwwroot {
	t.Helper()
	w, err := gateway.ParseWwwroot(s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func learner() User {
	return User{Password: "secret", User: gateway.User{
		ID: 3, Username: "learner1", FirstName: "Lena", LastName: "Lerner", Email: "learner1@idp.test",
		City: "Berlin", Country: "DE", Picture: "10",
	}}
}

// late is a handler that is set once its address is known.
type late struct{ http.Handler }

// testHome serves a home at its wwwroot on loopback.
func testHome(t *testing.T, change func(*HomeOptions)) *Home {
	t.Helper()
	handler := &late{}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	o := HomeOptions{Wwwroot: mustWwwroot(t, server.URL), Title: "idp", Users: []User{learner(), {
		Password: "admin", Admin: true, User: gateway.User{ID: 2, Username: "admin", FirstName: "Admin", LastName: "User", Email: "admin@idp.test"},
	}}}
	if change != nil {
		change(&o)
	}
	h, err := NewHome(o)
	if err != nil {
		t.Fatal(err)
	}
	handler.Handler = h
	return h
}

func testRedis(t *testing.T) (*miniredis.Miniredis, redis.UniversalClient) {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { client.Close() })
	return server, client
}

// browser keeps cookies and follows no redirect by itself.
type browser struct {
	t      *testing.T
	client *http.Client
	base   string
}

func newBrowser(t *testing.T, base gateway.Wwwroot) *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{t, &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, base.String()}
}

type answer struct {
	status   int
	location string
	body     string
	header   http.Header
}

func (b *browser) do(method, target string, form url.Values) answer {
	b.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.base + target
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(context.Background(), method, target, body)
	if err != nil {
		b.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("User-Agent", "Mozilla/5.0 (test)")
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Location"), string(text), resp.Header}
}

func (b *browser) get(target string) answer                   { return b.do("GET", target, nil) }
func (b *browser) post(target string, form url.Values) answer { return b.do("POST", target, form) }

var (
	loginTokenField = regexp.MustCompile(`<input type="hidden" name="logintoken" value="([^"]+)">`)
	sesskeyField    = regexp.MustCompile(`"sesskey":"([^"]+)"`)
)

func field(t *testing.T, pattern *regexp.Regexp, body string) string {
	t.Helper()
	m := pattern.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no %s in %s", pattern, body)
	}
	return m[1]
}

// submitLogin fetches the form and sends it.
func (b *browser) submitLogin(username, password string) answer {
	b.t.Helper()
	form := b.get("/login/index.php")
	return b.post("/login/index.php", url.Values{
		"username": {username}, "password": {password}, "logintoken": {field(b.t, loginTokenField, form.body)},
	})
}

// login logs in and follows the bounce; it returns where that ends.
func (b *browser) login(username, password string) answer {
	b.t.Helper()
	a := b.submitLogin(username, password)
	b.want(a, 303, "/login/index.php?testsession=")
	return b.get(a.location)
}

func (b *browser) want(a answer, status int, locationPrefix string) {
	b.t.Helper()
	if strings.HasPrefix(locationPrefix, "/") {
		locationPrefix = b.base + locationPrefix
	}
	if a.status != status || !strings.HasPrefix(a.location, locationPrefix) {
		b.t.Fatalf("got %d to %q, want %d to %q…\n%.2000s", a.status, a.location, status, locationPrefix, a.body)
	}
}

func (b *browser) sid() string {
	u, _ := url.Parse(b.base + "/")
	for _, c := range b.client.Jar.Cookies(u) {
		if strings.HasPrefix(c.Name, "MoodleSession") {
			return c.Value
		}
	}
	return ""
}
