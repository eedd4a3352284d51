package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestALoginProviderHasDefaults(t *testing.T) {
	testDir(t)
	c := load(t, minimal+"    identity: {source: oidc, client_id: jumpgate, issuer: 'https://login.example.org/realms/a'}\n")
	want := &OpenID{
		Issuer: "https://login.example.org/realms/a", ClientID: "jumpgate",
		Scopes:    []string{"openid", "profile", "email"},
		Claims:    Claims{Username: "preferred_username", FirstName: "given_name", LastName: "family_name", Email: "email", Lang: "locale"},
		Usernames: &gateway.Usernames{}, Session: time.Hour,
	}
	id := c.Sites[0].Identity
	if diff := cmp.Diff(want, id.OpenID, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if id.Source != OIDC || id.Redis != nil || id.Cookie != "MoodleSession" {
		t.Errorf("got %+v", id)
	}
}

func TestUsernamesAreReadFromAFile(t *testing.T) {
	testDir(t)
	t.Setenv("JUMPGATE_TEST_SECRET", "hunter2")
	c := load(t, minimal+"    identity: {source: oidc, client_id: a, issuer: 'https://login.example.org', client_secret_env: JUMPGATE_TEST_SECRET, "+
		"username_strip: '@College.example', usernames_file: usernames.csv}\n")
	p := c.Sites[0].Identity.OpenID
	if p.ClientSecret != "hunter2" {
		t.Error("the secret was not read")
	}
	for account, want := range map[string]string{
		"ada.king@college.example": "ada", "x,y@college.example": "grace", "bob@college.example": "bob", "ada@college.example": "",
	} {
		if got, _ := p.Usernames.Of(account); got != want {
			t.Errorf("%s is %q, want %q", account, got, want)
		}
	}
}
