package idp_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
	"jumpgate/idp"
	"jumpgate/idp/openidtest"
)

// lander returns what becomes of a login of somebody with these claims beside
// ada's, and the user that a peer learns of.
func lander(t *testing.T, claims map[string]any, change ...func(*idp.OpenIDOptions)) (idp.Answer, gateway.User) {
	t.Helper()
	c := newCollege(t, change...)
	c.provider.Change(func(b *openidtest.Behaviour) { maps.Copy(b.Claims, claims) })
	b := browser{}
	a, _ := c.comeBack(b, c.login(t, c.jump(b, "/x")))
	if !a.Landing {
		if a.Refused {
			c.login(t, c.jump(b, "/x")) // for what was repaired meanwhile is seen at once
		}
		return a, gateway.User{}
	}
	token, _ := landing(t, a)
	g, err := c.state.Redeem(t.Context(), [32]byte{1}, token, store.Redeemer{Peer: c.Peers.Find("https://sp.test").Wwwroot, UserAgent: uaHash(firefox), Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return a, g.User
}

func TestClaimsBecomeFieldsOfTheUser(t *testing.T) {
	long := strings.Repeat("ö", 100)
	for _, test := range []struct {
		name   string
		claims map[string]any
		change func(*gateway.User)
	}{
		{"as they are", nil, func(*gateway.User) {}},
		{"another account", map[string]any{"preferred_username": "Bob.Müller-1@COLLEGE.example"}, nil},
		{"plain letters", map[string]any{"preferred_username": "bob.m-1_x@college.example"}, func(u *gateway.User) { u.Username = "bob.m-1_x" }},
		{"a claim within a claim", map[string]any{"address": map[string]any{"locality": " London ", "country": "xx"}}, func(u *gateway.User) { u.City = "London" }},
		{"a claim with a dot in its name", map[string]any{"address.locality": "Paris", "address": map[string]any{"locality": "London"}}, func(u *gateway.User) { u.City = "Paris" }},
		{"a country", map[string]any{"country": "GB"}, func(u *gateway.User) { u.Country = "GB" }},
		{"a country that is no code", map[string]any{"country": "Great Britain"}, func(*gateway.User) {}},
		{"a language that Moodle tells apart", map[string]any{"locale": "pt-BR"}, func(u *gateway.User) { u.Lang = "pt_br" }},
		{"one that it does not", map[string]any{"locale": "de_AT"}, func(u *gateway.User) { u.Lang = "de" }},
		{"no language", map[string]any{"locale": "../../etc"}, func(u *gateway.User) { u.Lang = "" }},
		{"a time zone", map[string]any{"zoneinfo": "Europe/London"}, func(u *gateway.User) { u.Timezone = "Europe/London" }},
		{"no time zone", map[string]any{"zoneinfo": "<script>"}, func(*gateway.User) {}},
		{"long names in another alphabet", map[string]any{"given_name": long}, func(u *gateway.User) { u.FirstName = long }},
		{"a city that is too long", map[string]any{"address.locality": strings.Repeat("x", 121)}, func(*gateway.User) {}},
		{"a city of several", map[string]any{"address.locality": []string{"London", "Paris"}}, func(*gateway.User) {}},
		{"a mail address that nobody spoke of", map[string]any{"email_verified": nil}, func(*gateway.User) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, got := lander(t, test.claims)
			if test.change == nil {
				if a.Rule != gateway.RuleUserUsername {
					t.Errorf("got %+v", a)
				}
				return
			}
			want := gateway.User{Username: "ada", FirstName: "Ada", LastName: "Lovelace", Email: "ada@college.example", Lang: "en"}
			test.change(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhoLacksWhatPeersNeedStaysAndIsToldWhat(t *testing.T) {
	for _, test := range []struct {
		name    string
		claims  map[string]any
		rule    gateway.Rule
		lacking []string
	}{
		{"no first name", map[string]any{"given_name": nil}, gateway.RuleUserIncomplete, []string{"first name"}},
		{"nothing", map[string]any{"given_name": nil, "family_name": "", "email": "  "}, gateway.RuleUserIncomplete, []string{"first name", "last name", "mail address"}},
		{"a name that is no text", map[string]any{"family_name": 7}, gateway.RuleUserIncomplete, []string{"last name"}},
		{"a name of two lines", map[string]any{"family_name": "Love\nlace"}, gateway.RuleUserIncomplete, []string{"last name"}},
		{"a name that no column holds", map[string]any{"family_name": strings.Repeat("x", 101)}, gateway.RuleUserIncomplete, []string{"last name"}},
		{"a mail address that is not confirmed", map[string]any{"email_verified": false}, gateway.RuleUserIncomplete, []string{"a mail address that was confirmed"}},
		{"one that says so in words", map[string]any{"email_verified": "false"}, gateway.RuleUserIncomplete, []string{"a mail address that was confirmed"}},
		{"no username", map[string]any{"preferred_username": nil}, gateway.RuleUserUsername, nil},
		{"a username that is no text", map[string]any{"preferred_username": map[string]any{"x": "ada"}}, gateway.RuleUserUsername, nil},
		{"a username of another college", map[string]any{"preferred_username": "ada@other.example"}, gateway.RuleUserUsername, nil},
		{"a guest of the tenant", map[string]any{"preferred_username": "ada_gmail.com#EXT#@college.example"}, gateway.RuleUserUsername, nil},
		{"a hard blank at the end", map[string]any{"preferred_username": "ada@college.example\u00a0"}, gateway.RuleUserUsername, nil},
		{"a wide blank before it", map[string]any{"preferred_username": "\u2003ada@college.example"}, gateway.RuleUserUsername, nil},
		{"a line", map[string]any{"preferred_username": "ada@college.example\n"}, gateway.RuleUserUsername, nil},
		{"a blank", map[string]any{"preferred_username": " ada@college.example"}, gateway.RuleUserUsername, nil},
		{"Moodle's guest", map[string]any{"preferred_username": "guest@college.example"}, gateway.RuleUserUsername, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, _ := lander(t, test.claims)
			if a.Rule != test.rule || !a.Refused || a.Cause == nil {
				t.Errorf("got %+v", a)
			}
			if diff := cmp.Diff(test.lacking, a.Lacking); diff != "" {
				t.Errorf("lacking (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMailAddressOfAnotherClaimNeedsNoConfirmation(t *testing.T) {
	a, user := lander(t, map[string]any{"upn": "ada.king@college.example", "email_verified": false},
		func(o *idp.OpenIDOptions) { o.Claims.Email = "upn" })
	if !a.Landing || user.Email != "ada.king@college.example" {
		t.Errorf("got %+v, %+v", a, user)
	}
}
