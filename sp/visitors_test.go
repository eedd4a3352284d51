package sp_test

import (
	"context"
	"errors"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/sp"
)

func TestVisitorsAreRemote(t *testing.T) {
	f := newHeaderForum(t, &headerMoodle{})
	for session, remote := range map[string]bool{adas: true, adasNext: false, anonymous: false} {
		id, err := sp.Visitors{Source: f.Source, Auth: moodle.AuthHeader}.Identity(t.Context(), moodle.Browser{Session: session})
		if err != nil || id.Remote != remote {
			t.Errorf("%s: %+v, %v", session, id, err)
		}
	}
}

func TestTheHomeOfAVisitor(t *testing.T) {
	f := newHeaderForum(t, &headerMoodle{})
	v := sp.Visitors{Source: f.Source, Auth: moodle.AuthHeader, Names: f.Logins.Names, Peers: f.Peers}
	byOAuth2 := v
	byOAuth2.Auth = moodle.AuthOAuth2
	for name, test := range map[string]struct {
		visitors       sp.Visitors
		auth, account  string
		home, username string
		ours           bool
	}{
		"who has come by headers":                {v, "shibboleth", "m_-fc-ller@home.test", "https://home.test", "müller", true},
		"from where no peer is":                  {v, "shibboleth", "ada@gone.test", "", "", true},
		"under a name that is no learner's":      {v, "shibboleth", "root", "", "", true},
		"who has come by MNet":                   {v, "mnet", "ada@home.test", "", "", false},
		"the site's own, whatever their name is": {v, "manual", "ada@home.test", "", "", false},
		"who has come by OAuth 2":                {byOAuth2, "oauth2", "ada@home.test", "https://home.test", "ada", true},
		"the site's own, by another provider":    {byOAuth2, "oauth2", "ada@gmail.test", "", "", false},
		"by headers, where none come":            {byOAuth2, "shibboleth", "ada@home.test", "", "", false},
		"and nobody":                             {v, "", "", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			home, username, ours := test.visitors.HomeOf(gateway.User{Auth: test.auth, Username: test.account})
			got := ""
			if home != nil {
				got = home.Wwwroot.String()
			}
			if got != test.home || username != test.username || ours != test.ours {
				t.Errorf("%q of %q, %t", username, got, ours)
			}
		})
	}
}

// forgetful is a source that remembers, and says which session it has forgotten.
type forgetful struct{ sp.Source }

func (forgetful) Forget(_ context.Context, session string) error {
	return errors.New("forgot " + session)
}

func TestVisitorsAreForgottenLikeOthers(t *testing.T) {
	f := newHeaderForum(t, &headerMoodle{})
	if err := (sp.Visitors{Source: forgetful{f.Source}}).Forget(t.Context(), adas); err == nil || err.Error() != "forgot "+adas {
		t.Errorf("a source that remembers: %v", err)
	}
	if err := (sp.Visitors{Source: f.Source, Auth: moodle.AuthHeader}).Forget(t.Context(), adas); err != nil {
		t.Errorf("one that does not: %v", err)
	}
}
