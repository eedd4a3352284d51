package main

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/moodletest"
)

const clientSecret = "fedcba9876543210fedcba9876543210"

const oauth2Landing = "{by: oauth2, issuer_id: 3, client_secret_file: client-secret, token_file: token}"

// newOAuth2Forum is a headerForum whose Moodle lets learners in by OAuth 2. Change
// may change the service that is set up in it.
func newOAuth2Forum(t *testing.T, s headerSetting, change ...func(*moodletest.OAuth2Service)) *headerForum {
	t.Helper()
	s.oauth2 = change
	s.landing, s.token = oauth2Landing, webToken
	return newHeaderForum(t, s)
}

// TestTwoLearnersWithOneAddress: the second one is not let into the first one's account.
func TestTwoLearnersWithOneAddress(t *testing.T) {
	h := newOAuth2Forum(t, headerSetting{})
	h.arrives(newVisitor(t), 0, "ada")
	newVisitor(t).follow(h.landing(1, "ada")).refused(h, "account-mail")
	h.arrives(newVisitor(t), 0, "ada")
}

// TestAnAccountThatMNetMadeIsKept: an administrator has linked it.
func TestAnAccountThatMNetMadeIsKept(t *testing.T) {
	remote := moodletest.User{User: gateway.User{ID: 41, Username: "ada", Auth: "mnet", MnetHostID: 7, FirstName: "A", LastName: "L", Email: "old@home.test"}}
	r := startRedis(t)
	h := newOAuth2Forum(t, headerSetting{
		identity: "{source: moodle-redis, prefix: mdl_, mfa: false, redis: " + r.url() + "}",
		sessions: moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"},
		home:     ", hostid: 7",
		users:    func(*headerForum) []moodletest.User { return []moodletest.User{remote} },
	})
	h.moodle.Link(h.account(0, "ada"), 41)
	v := newVisitor(t).follow(h.landing(0, "ada"))
	if v.at.String() != h.forum+moodletest.SampleDeepLink || len(v.hops) != 1 {
		t.Fatalf("ends on %s after %q:\n%s", v.at, v.hops, v.page)
	}
	first := v.isAt(h.crossroads, "ada").session(h.crossroads)
	if v.follow(h.landing(0, "ada")); v.session(h.crossroads) != first || len(v.hops) != 1 {
		t.Errorf("a second landing ends on %s after %q with another session", v.at, v.hops)
	}
	if _, made := h.moodle.User(h.account(0, "ada")); made {
		t.Error("there is a second account")
	}
	// The namesake of another home is not who is logged in, and gets an account of his own.
	v.follow(h.landing(1, "ada"))
	if !strings.Contains(v.page, "an account of "+strings.TrimPrefix(h.homes[1], "http://")) {
		t.Errorf("at %s:\n%s", v.at, v.page)
	}
	h.moodle.Link(h.account(0, "bob"), 41) // a mistake of the administrator's
	newVisitor(t).follow(h.landing(0, "bob")).refused(h, "account-refused")
}

func TestWhomOAuth2DoesNotLetIn(t *testing.T) {
	local := func(change func(*headerForum, *moodletest.User)) headerSetting {
		return headerSetting{users: func(h *headerForum) []moodletest.User {
			u := moodletest.User{User: gateway.User{ID: 40, Username: "teacher", Auth: "manual", FirstName: "L", LastName: "T", Email: "teacher@forum.test"}}
			change(h, &u)
			return []moodletest.User{u}
		}}
	}
	sample := moodletest.SampleUser("")
	for _, test := range []struct {
		name    string
		setting headerSetting
		service func(*moodletest.OAuth2Service)
		linked  bool // the name that ada would have, to account 40
		rule    string
		cause   string
	}{
		{"who has the mail address of a local account", local(func(_ *headerForum, u *moodletest.User) { u.Email = sample.Email }),
			nil, false, "account-mail", "account 40 (auth manual) has the mail address of the learner"},
		{"who has that of an administrator", local(func(_ *headerForum, u *moodletest.User) { u.Email, u.Admin = strings.ToUpper(sample.Email), true }),
			nil, false, "account-mail", "account 40 (auth manual)"},
		{"who has that of an account that another service made, under the name", local(func(h *headerForum, u *moodletest.User) {
			u.Email, u.Auth, u.Username = sample.Email, "oauth2", h.account(0, "ada")
		}), nil, false, "account-mail", "map the field sub to idnumber"},
		{"whose name a local account has", local(func(h *headerForum, u *moodletest.User) { u.Username = h.account(0, "ada") }),
			nil, false, "account-refused", "another account has the name"},
		{"whose name is linked to a local account", local(func(*headerForum, *moodletest.User) {}),
			nil, true, "account-refused", `moodle has logged in user 40 \\\"teacher\\\" (auth manual`},
		{"who is suspended", local(func(h *headerForum, u *moodletest.User) {
			u.Auth, u.Username, u.Suspended, u.IDNumber = "oauth2", h.account(0, "ada"), true, h.homes[0]+"#ada"
		}), nil, true, "account-refused", "the account is suspended"},
		{"anybody, while accounts are not marked", headerSetting{}, func(s *moodletest.OAuth2Service) { s.Unmarked = true },
			false, "account-refused", "map the field sub to idnumber"},
		{"anybody, while mails have to be answered", headerSetting{}, func(s *moodletest.OAuth2Service) { s.Confirm = true },
			false, "account-refused", "Require email verification"},
		{"anybody, while the secret is another", headerSetting{}, func(s *moodletest.OAuth2Service) { s.ClientSecret = "another" },
			false, "account-refused", "another client id or secret"},
		{"anybody, while the service is another", headerSetting{}, func(s *moodletest.OAuth2Service) { s.ID = 4 },
			false, "account-refused", "landing.issuer_id is not the number"},
	} {
		t.Run(test.name, func(t *testing.T) {
			change := test.service
			if change == nil {
				change = func(*moodletest.OAuth2Service) {}
			}
			h := newOAuth2Forum(t, test.setting, change)
			if test.linked {
				h.moodle.Link(h.account(0, "ada"), 40)
			}
			before, _ := h.moodle.User("teacher")
			v := newVisitor(t).follow(h.landing(0, "ada")).refused(h, test.rule)
			if again := h.homes[0] + "/auth/mnet/jump.php?hostwwwroot="; !strings.Contains(v.page, `href="`+again) {
				t.Errorf("the page does not lead home:\n%s", v.page)
			}
			if !strings.Contains(h.log.String(), test.cause) {
				t.Errorf("the log does not say %s", test.cause)
			}
			after, _ := h.moodle.User("teacher")
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the account has changed:\n%s", diff)
			}
		})
	}
}

// TestACodeOfAnotherLearnerLetsNobodyIn has the Moodle behind bring the code of one
// learner with the login of another.
func TestACodeOfAnotherLearnerLetsNobodyIn(t *testing.T) {
	h := newOAuth2Forum(t, headerSetting{})
	h.arrives(newVisitor(t), 0, "bob")
	var mu sync.Mutex
	var kept string
	ended := 0
	through := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case r.URL.Path == "/auth/oauth2/login.php" && kept == "":
				kept = r.FormValue("oauth2code")
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return
			case r.URL.Path == "/auth/oauth2/login.php":
				r.Form = nil
				_ = r.ParseForm()
				r.Form.Set("oauth2code", kept)
			case r.URL.Path == "/login/logout.php" && r.Method == http.MethodPost:
				ended++
			}
			next.ServeHTTP(w, r)
		})
	}
	h.through.Store(&through)
	if v := newVisitor(t).follow(h.landing(0, "bob")); v.session(h.crossroads) != "" || !strings.Contains(v.page, "a part of this site does not answer") {
		t.Fatalf("at %s:\n%s", v.at, v.page)
	}
	ended = 0 // but for that of bob, whom his home has logged out when he came anew
	newVisitor(t).follow(h.landing(0, "ada")).refused(h, "account-refused")
	if ended != 1 {
		t.Errorf("%d sessions were ended", ended)
	}
	newVisitor(t).follow(h.landing(0, "ada")).refused(h, "account-refused") // the code is burned
	if ended != 1 || !strings.Contains(h.log.String(), "reason=invalid_grant") {
		t.Errorf("%d sessions were ended", ended)
	}
}

// TestOfTwoWhoLandAtOnceWithOneMailAddressOneDoes: while Moodle logs in the first,
// the other one comes, and no account has the address yet.
func TestOfTwoWhoLandAtOnceWithOneMailAddressOneDoes(t *testing.T) {
	h := newOAuth2Forum(t, headerSetting{})
	var first atomic.Bool
	namesake := newVisitor(t)
	through := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/auth/oauth2/login.php" && first.CompareAndSwap(false, true) {
				namesake.follow(h.landing(1, "ada"))
			}
			next.ServeHTTP(w, r)
		})
	}
	h.through.Store(&through)
	h.arrives(newVisitor(t), 0, "ada")
	namesake.refused(h, "account-mail")
	if _, made := h.moodle.User(h.account(1, "ada")); made || !strings.Contains(h.log.String(), "has come with the same mail address") {
		t.Error("the namesake has an account, or the log does not say why not")
	}
	h.arrives(newVisitor(t), 0, "ada")
}
