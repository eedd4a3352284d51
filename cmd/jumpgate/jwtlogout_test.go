package main

import (
	"net/http"
	"strings"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodletest"
)

// travels takes a new visitor through a login at a home to the application.
func (a *application) travels(home int, username, userAgent string) *visitor {
	a.t.Helper()
	v := newVisitor(a.t)
	v.userAgent = userAgent
	v.follow(gateway.JumpLink(wwwroot(a.t, a.homes[home]), gateway.Moodle, wwwroot(a.t, a.forum), target(a.t, a.forum, moodletest.SampleDeepLink)))
	a.shows(v.login(username, "pw"), a.account(home, username))
	return v
}

// leaves lets a visitor log out of the application.
func (a *application) leaves(v *visitor) {
	v.t.Helper()
	r, err := http.NewRequest("POST", a.forum+"/jumpgate/logout", nil)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	v.do(r, err)
}

func TestALogoutAtHomeEndsTheSessionAtAnApplication(t *testing.T) {
	a := newApplication(t, "jwt")
	for home := range a.homes {
		v, other := a.travels(home, "ada", ""), a.travels(home, "ada", anotherBrowser)
		bob, namesake := a.travels(home, "bob", ""), a.travels(1-home, "ada", "")
		v.logout(a.homes[home])
		a.wait()
		a.shows(v, "")
		a.shows(other, a.account(home, "ada"))
		a.shows(bob, a.account(home, "bob"))
		a.shows(namesake, a.account(1-home, "ada"))
	}
	if want := "at=" + a.forum + " user=" + a.account(0, "ada") + " cause=home outcome=ended"; !strings.Contains(a.log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, a.log.String())
	}
}

func TestALogoutAtAnApplicationEndsTheSessionAtHome(t *testing.T) {
	a := newApplication(t, "jwt")
	for home := range a.homes {
		v, other := a.travels(home, "ada", ""), a.travels(home, "bob", "")
		if a.leaves(v); !strings.Contains(v.page, `href="`+a.homes[home]+`/"`) {
			t.Errorf("the page does not lead home:\n%s", v.page)
		}
		a.wait()
		a.shows(v, "")
		if v.isLoggedIn(a.homes[home]) {
			t.Error("the learner is still logged in at home")
		}
		a.shows(other, a.account(home, "bob"))
		if !other.isLoggedIn(a.homes[home]) {
			t.Error("somebody else is logged out")
		}
		if want := "at=" + a.homes[home] + " user=ada cause=here outcome=ended"; !strings.Contains(a.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, a.log.String())
		}
	}
}

func TestAHomeThatIsDownKeepsNobodyLoggedInAtAnApplication(t *testing.T) {
	a := newApplication(t, "jwt")
	v := a.travels(0, "ada", "")
	down := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == gateway.Moodle.RPCPath() {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}
	a.toHome.Store(&down)
	a.leaves(v)
	a.shows(v, "")
	a.toHome.Store(nil) // the next try finds it well
	a.wait()
	if v.isLoggedIn(a.homes[0]) {
		t.Error("the learner is still logged in at home")
	}
}

// TestAHomeCallsAnApplication: what there is no method for, nobody else hears of.
func TestAHomeCallsAnApplication(t *testing.T) {
	a := newApplication(t, "jwt")
	if answer, err := a.callForum(0, "keepalive_client"); answer != true || err != nil {
		t.Errorf("while nobody is there, answered %v, %v", answer, err)
	}
	a.travels(0, "ada", "")
	if answer, err := a.callForum(0, "keepalive_client"); answer != "" || err != nil {
		t.Errorf("answered %v, %v", answer, err)
	}
	if want := "msg=keep-alive site=" + a.forum + " home=" + a.homes[0] + " learners=1\n"; strings.Count(a.log.String(), want) != 1 {
		t.Errorf("the log lacks %q:\n%s", want, a.log.String())
	}
	a.seen.Store(nil)
	for _, test := range []struct {
		method string
		params []mnet.Value
		answer any
	}{
		{"kill_child", []mnet.Value{"nobody", sha1Hex(anotherBrowser)}, false},
		{"kill_children", []mnet.Value{"nobody", sha1Hex(anotherBrowser)}, nil}, // we are no home
		{"unheard_of", nil, nil},
	} {
		answer, err := a.callForum(0, test.method, test.params...)
		if test.answer == nil && err == nil || test.answer != nil && (err != nil || answer != test.answer) {
			t.Errorf("%s: answered %v, %v", test.method, answer, err)
		}
	}
	if a.seen.Load() != nil {
		t.Error("the application is asked")
	}
}
