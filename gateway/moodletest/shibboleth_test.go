package moodletest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"jumpgate/gateway"
)

// TestShibbolethLogsInAsARealMoodleDoes has the pitfalls of the core plugin.
func TestShibbolethLogsInAsARealMoodleDoes(t *testing.T) {
	root := mustWwwroot(t, "http://forum.test")
	account := func(name, auth string) User {
		return User{User: gateway.User{Username: name, Auth: auth, FirstName: "Old", LastName: "Name", Email: "old@forum.test", City: "Paris"}}
	}
	suspended := account("gone@home.test", "shibboleth")
	suspended.Suspended = true
	f, err := NewForum(ForumOptions{Wwwroot: root, Shibboleth: true, Users: []User{
		account("bob@home.test", "shibboleth"), account("grace", "manual"), suspended,
	}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(target, cookie string, headers ...string) *http.Response {
		r := httptest.NewRequest("GET", root.String()+target, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header[headers[i]] = append(r.Header[headers[i]], headers[i+1])
		}
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		return w.Result()
	}
	const page = "/auth/shibboleth/index.php"
	for _, test := range []struct {
		name    string
		headers []string
		account string // who is logged in; empty for a 404
	}{
		{"somebody new", []string{"X-Jumpgate-Username", "Ada@home.test", "X-Jumpgate-Firstname", "Ada"}, "ada@home.test"},
		{"an account", []string{"X-Jumpgate-Username", "bob@home.test"}, "bob@home.test"},
		{"underscores", []string{"X_jumpgate_username", "bob@home.test"}, "bob@home.test"},
		{"the last of two", []string{"X-Jumpgate-Username", "grace", "X-Jumpgate-Username", "bob@home.test"}, "bob@home.test"},
		{"no header", nil, ""},
		{"a manual account", []string{"X-Jumpgate-Username", "grace"}, ""},
		{"the guest", []string{"X-Jumpgate-Username", "guest"}, ""},
		{"a suspended account", []string{"X-Jumpgate-Username", "gone@home.test"}, ""},
		{"an umlaut", []string{"X-Jumpgate-Username", "müller"}, ""},
	} {
		res := ask(page, "", test.headers...)
		if test.account == "" {
			if res.StatusCode != http.StatusNotFound {
				t.Errorf("%s: status %d", test.name, res.StatusCode)
			}
			continue
		}
		cookie, _, _ := strings.Cut(res.Header.Get("Set-Cookie"), ";")
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != root.String()+"/my/" {
			t.Errorf("%s: status %d to %s", test.name, res.StatusCode, res.Header.Get("Location"))
		}
		if sid := strings.TrimPrefix(cookie, "MoodleSession="); f.owner(t, sid) != test.account {
			t.Errorf("%s: %s is logged in", test.name, f.owner(t, sid))
		}
		again := ask(page+"?target=http%3A%2F%2Fforum.test%2Fmod%2Fx", cookie, "X-Jumpgate-Username", "eve@home.test")
		if again.StatusCode != http.StatusSeeOther || again.Header.Get("Set-Cookie") != "" || again.Header.Get("Location") != root.String()+"/mod/x" {
			t.Errorf("%s: an existing session does not win: %v", test.name, again.Header)
		}
	}
	ask(page, "", "X-Jumpgate-Username", "bob@home.test", "X-Jumpgate-Firstname", "Bob;Robert")
	if u, _ := f.User("bob@home.test"); u.FirstName != "Bob" || u.LastName != "" || u.City != "" {
		t.Errorf("values are not cut, or what is missing is not emptied: %+v", u)
	}
}

// owner returns the account of a session.
func (f *Forum) owner(t *testing.T, sid string) string {
	t.Helper()
	fields, err := f.store.load(t.Context(), sid)
	if err != nil || fields == nil {
		t.Fatalf("no session %q: %v", sid, err)
	}
	s, err := decodeSession(sid, fields)
	if err != nil {
		t.Fatal(err)
	}
	return s.user().text("username")
}
