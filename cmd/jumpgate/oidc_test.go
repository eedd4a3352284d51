package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"jumpgate/gateway/moodletest"
	"jumpgate/idp"
	"jumpgate/idp/openidtest"
)

// newCollege starts a federation whose home has its accounts at a provider.
func newCollege(t *testing.T, redis string, sessions moodletest.Sessions) (*federation, *openidtest.Provider) {
	t.Helper()
	client := openidtest.Client{ID: "jumpgate", Secret: "0123456789abcdef"}
	p := openidtest.Start(t, client, openidtest.Behaviour{Claims: map[string]any{
		"preferred_username": "ada@college.example", "given_name": "Ada", "family_name": "Lovelace", "email": "ada@college.example",
	}})
	f := newFederation(t, setting{
		redis: redis, sessions: sessions, token: client.Secret,
		identity: fmt.Sprintf("{source: oidc, issuer: %q, client_id: jumpgate, client_secret_file: token, username_strip: '@college.example'}", p.Issuer),
	})
	client.Callback = f.IDP + idp.CallbackPath
	p.Register(client)
	return f, p
}

func TestALoginAtAProviderLandsOnThePost(t *testing.T) {
	for _, redis := range []string{"embedded", "redis-server"} {
		t.Run(redis, func(t *testing.T) {
			t.Parallel()
			url := ""
			if redis != "embedded" {
				url = startRedis(t).url()
			}
			f, p := newCollege(t, url, moodletest.Sessions{})
			v := newVisitor(t).follow(f.DeepLink)
			v.reads(f.scene, f.Username)
			if n := v.redirectsFrom(f.DeepLink, f.IDP); n != 2 || len(v.hops) != 4 {
				t.Errorf("the first click took %q", v.hops)
			}
			v.follow(f.DeepLink).reads(f.scene, f.Username)
			if n := v.redirectsFrom(f.DeepLink, f.IDP); n != 1 || len(v.hops) != 2 || p.Asked("login") != 1 {
				t.Errorf("the second click took %q", v.hops)
			}
			f.gateway.Store(f.newGateway()) // another process
			if redis != "embedded" {
				v.follow(f.DeepLink).reads(f.scene, f.Username)
				if p.Asked("login") != 1 {
					t.Error("another gateway does not know the login")
				}
			}
		})
	}
}

// stopsAt follows a link up to the provider, which answers with the way back.
func (v *visitor) stopsAt(t *testing.T, link string, p *openidtest.Provider) (back string) {
	t.Helper()
	follow := v.client.CheckRedirect
	defer func() { v.client.CheckRedirect = follow }()
	v.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if strings.HasPrefix(via[len(via)-1].URL.String(), p.Issuer+"/") {
			back = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	v.follow(link)
	if back == "" {
		t.Fatalf("%s does not lead to the provider, but to %s", link, v.at)
	}
	return back
}

func TestTwoTabsBothComeBackFromTheProvider(t *testing.T) {
	f, p := newCollege(t, "", moodletest.Sessions{})
	first, second := newVisitor(t), newVisitor(t)
	second.client.Jar = first.client.Jar // one browser, two tabs
	one := first.stopsAt(t, f.DeepLink, p)
	two := second.stopsAt(t, f.link("/mod/forum/discuss.php?d=1#p2"), p)
	if second.follow(two); second.at.String() != f.SP+"/mod/forum/discuss.php?d=1#p2" {
		t.Errorf("the second tab ended on %s", second.at)
	}
	first.follow(one).reads(f.scene, f.Username)
	if third := newVisitor(t).follow(one); third.at.String() != one || !strings.Contains(third.page, "login-elsewhere") {
		t.Errorf("another browser got to %s:\n%s", third.at, third.page)
	}
}

func TestALogoutAtTheHomeTakesTheLearnerToTheProviderAgain(t *testing.T) {
	f, p := newCollege(t, "", moodletest.Sessions{})
	v := newVisitor(t).follow(f.IDP+"/login/index.php").login(f.Username, f.Password)
	v.follow(f.DeepLink).reads(f.scene, f.Username)
	v.follow(f.IDP + "/my/")
	key := sesskey.FindStringSubmatch(v.page)
	if key == nil {
		t.Fatalf("no sesskey on %s", v.at)
	}
	v.follow(f.DeepLink).reads(f.scene, f.Username)
	if n := p.Asked("login"); n != 1 {
		t.Errorf("%d logins before", n)
	}
	v.follow(f.IDP + "/login/logout.php?sesskey=" + key[1])
	v.follow(f.DeepLink).reads(f.scene, f.Username)
	if n := p.Asked("login"); n != 2 {
		t.Errorf("%d logins after", n)
	}
}

func TestWithoutAProviderPagesPassAndJumpsSaySo(t *testing.T) {
	f, p := newCollege(t, "", moodletest.Sessions{})
	p.Change(func(b *openidtest.Behaviour) {
		b.Answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
	})
	v := newVisitor(t).follow(f.DeepLink)
	if v.at.String() != f.DeepLink || !strings.Contains(v.page, "Not just now") {
		t.Errorf("a jump led to %s:\n%s", v.at, v.page)
	}
	if v.follow(f.IDP+"/login/index.php").login(f.Username, f.Password); v.at.String() != f.IDP+"/my/" {
		t.Errorf("a login led to %s by %q", v.at, v.hops)
	}
}
