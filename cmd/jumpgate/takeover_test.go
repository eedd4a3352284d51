package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/moodletest"
)

const plain = "header by a plain name"

// takeovers are the landings of the table below, each as the configuration has it.
var takeovers = map[string]string{
	"moodle": "moodle",
	"header": "header",
	plain:    "{by: header, name: plain}",
	"oauth2": oauth2Landing,
}

// TestNobodyTakesOverAnAccount is the table of accounts that are at a Moodle already
// when a learner of a home lands there for the first time. What refuses them is
// Moodle's own plugin, or we; where nobody does, they have another account than that.
func TestNobodyTakesOverAnAccount(t *testing.T) {
	type user = moodletest.User
	suspended := func(u *user) { u.Suspended = true }
	deleted := func(u *user) { u.Deleted = true }
	admin := func(u *user) { u.Admin = true }
	manual := func(*user) {}
	by := func(auth string) func(*user) { return func(u *user) { u.Auth = auth } }
	byHeader, byPlain := []string{"header", plain}, []string{plain}
	// What an account that is there has of the learner: the rest is its own.
	const mail, username, name, nameAsMail = "mail", "username", "name", "name as mail"
	rows := []struct {
		name    string
		same    []string
		is      []func(*user)
		refused []string // by these landings; the others give another account
		own     string   // the landing by which it is the learner's own
		oauth2  string   // the rule that refuses with oauth2, or ""
	}{
		{"the mail", []string{mail}, []func(*user){manual}, nil, "", "account-mail"},
		{"the mail, by headers", []string{mail}, []func(*user){by("shibboleth")}, nil, "", "account-mail"},
		{"the mail, an administrator", []string{mail}, []func(*user){admin}, nil, "", "account-mail"},
		{"the mail, suspended", []string{mail}, []func(*user){suspended}, nil, "", "account-mail"},
		{"the name as its mail", []string{nameAsMail}, []func(*user){manual}, nil, "", ""},
		{"the username", []string{username}, []func(*user){manual}, byPlain, "", ""},
		{"the username, by headers", []string{username}, []func(*user){by("shibboleth")}, nil, plain, ""},
		{"the username and mail, by OAuth 2", []string{username, mail}, []func(*user){by("oauth2")}, byPlain, "", "account-mail"},
		{"the username and mail, an administrator", []string{username, mail}, []func(*user){admin}, byPlain, "", "account-mail"},
		{"the username and mail, suspended", []string{username, mail}, []func(*user){suspended}, byPlain, "", "account-mail"},
		{"the name", []string{name}, []func(*user){manual}, byHeader, "", "account-refused"},
		{"the name and mail, by OAuth 2", []string{name, mail}, []func(*user){by("oauth2")}, byHeader, "", "account-mail"},
		{"the name and mail, of another host of MNet", []string{name, mail}, []func(*user){by("mnet"), func(u *user) { u.MnetHostID = 99 }}, nil, "", ""},
		{"the name and mail, an administrator", []string{name, mail}, []func(*user){admin}, byHeader, "", "account-mail"},
		{"the name and mail, by headers, suspended", []string{name, mail}, []func(*user){by("shibboleth"), suspended}, byHeader, "", "account-mail"},
		{"the name and mail, by headers, deleted", []string{name, mail}, []func(*user){by("shibboleth"), deleted}, byHeader, "", "account-refused"},
	}
	for landing, setting := range takeovers {
		t.Run(landing, func(t *testing.T) {
			t.Parallel()
			learners, locals, accounts := make([]user, len(rows)), make([]user, len(rows)), make([]string, len(rows))
			for i := range rows {
				learners[i] = moodletest.SampleUser("pw")
				learners[i].Username, learners[i].Email = fmt.Sprint("ada", i), fmt.Sprintf("ada%d@home.example", i)
			}
			h := newHeaderForum(t, headerSetting{landing: setting, token: webToken, alone: true, people: learners, users: func(h *headerForum) []user {
				for i, row := range rows {
					if accounts[i] = h.account(0, learners[i].Username); landing == plain {
						accounts[i] = learners[i].Username
					}
					u := user{Password: "local", User: gateway.User{
						Username: fmt.Sprint("local", i), Email: fmt.Sprintf("local%d@forum.test", i), FirstName: "Local", LastName: "Person", Auth: "manual"}}
					for _, what := range row.same {
						switch what {
						case mail:
							u.Email = learners[i].Email
						case nameAsMail:
							u.Email = accounts[i]
						case username:
							u.Username = learners[i].Username
						case name:
							u.Username = accounts[i]
						}
					}
					for _, is := range row.is {
						is(&u)
					}
					locals[i] = u
				}
				return locals
			}})
			for i, row := range rows {
				if landing == row.own {
					continue
				}
				t.Run("an account has "+row.name, func(t *testing.T) {
					h.t = t
					v := newVisitor(t).follow(h.landing(0, learners[i].Username))
					switch {
					case slices.Contains(row.refused, landing):
						v.refused(h, "account-refused")
					case landing == "oauth2" && row.oauth2 != "":
						v.refused(h, row.oauth2)
					default:
						v.isAt(h.crossroads, accounts[i])
					}
					before := locals[i]
					there, ok := h.moodle.User(before.Username)
					if before.MnetHostID != 0 { // none of the forum's own
						there, ok = before, true
					}
					if strings.Contains(v.page, "Local Person") || strings.Contains(v.page, fmt.Sprintf("/user/profile.php?id=%d\"", there.ID)) {
						t.Errorf("the learner is somebody else:\n%s", v.page)
					}
					if !ok || there.Email != before.Email || there.FirstName != "Local" || there.Auth != before.Auth || there.Suspended != before.Suspended || there.Deleted != before.Deleted {
						t.Errorf("the account has changed: %+v", there)
					}
				})
			}
		})
	}
}

// TestAVisitorWhoIsSuspendedStaysOut: Moodle's own plugin for MNet lets them in
// (source: auth/mnet/auth.php).
func TestAVisitorWhoIsSuspendedStaysOut(t *testing.T) {
	for _, identity := range []string{"{source: moodle-web}", ""} {
		s := headerSetting{landing: "moodle", identity: identity}
		if identity == "" {
			r := startRedis(t)
			s.identity = "{source: moodle-redis, prefix: mdl_, mfa: false, redis: " + r.url() + "}"
			s.sessions = moodletest.Sessions{Redis: r.Client, Prefix: "mdl_"}
		}
		h := newHeaderForum(t, s)
		newVisitor(t).follow(h.landing(0, "ada")).isAt(h.crossroads, h.account(0, "ada"))
		h.moodle.UpdateVisitor("ada", func(u *moodletest.User) { u.Suspended = true })
		v := newVisitor(t).follow(h.landing(0, "ada")).refused(h, "account-refused")
		if !strings.Contains(v.page, "It may be suspended") || !strings.Contains(h.log.String(), "who is suspended or deleted") {
			t.Errorf("the page:\n%s", v.page)
		}
	}
}

// TestLearnersOfTwoHomesAreNeverOneAccount: both are called ada, and have one mail
// address.
func TestLearnersOfTwoHomesAreNeverOneAccount(t *testing.T) {
	profile := func(v *visitor) string {
		_, rest, _ := strings.Cut(v.page, "/user/profile.php?id=")
		return rest[:min(4, len(rest))]
	}
	for landing, setting := range takeovers {
		if landing == plain || landing == "oauth2" {
			continue // which takes exactly one home, or lets nobody in who has another one's mail address
		}
		t.Run(landing, func(t *testing.T) {
			t.Parallel()
			h := newHeaderForum(t, headerSetting{landing: setting})
			first := newVisitor(t).follow(h.landing(0, "ada")).isAt(h.crossroads, h.account(0, "ada"))
			second := newVisitor(t).follow(h.landing(1, "ada")).isAt(h.crossroads, h.account(1, "ada"))
			if profile(first) == profile(second) || profile(first) == "" {
				t.Errorf("the accounts are %q and %q", profile(first), profile(second))
			}
			first.isAt(h.crossroads, h.account(0, "ada"))
		})
	}
	t.Run("jwt", func(t *testing.T) {
		a := newApplication(t, "jwt")
		for home := range a.homes {
			if name := a.account(home, "ada"); name == "ada" || name == a.account(1-home, "ada") {
				t.Errorf("ada of home %d is %q", home, name)
			}
			a.shows(newVisitor(t).follow(a.landing(home, "ada")), a.account(home, "ada"))
		}
	})
}
