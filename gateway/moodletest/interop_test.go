package moodletest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// ours is a site that speaks MNet by package mnet, between a stand-in Moodle
// and a stand-in Mahara that know it.
type ours struct {
	keys           atomic.Pointer[[]*mnet.Key]
	root           gateway.Wwwroot
	server         *mnet.Server
	client         *mnet.Client
	moodle, mahara *gateway.Peer
	forum          *Forum
	portfolio      *Mahara
}

func newOurs(t *testing.T) *ours {
	t.Helper()
	handlers := [3]*late{{}, {}, {}}
	var roots [3]gateway.Wwwroot
	for i, h := range handlers {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		roots[i] = mustWwwroot(t, server.URL)
	}
	o := &ours{root: roots[0]}
	o.keys.Store(&[]*mnet.Key{newKey(t, o.root.String())})
	keys := func() []*mnet.Key { return *o.keys.Load() }
	sso := []string{gateway.ServiceSSOIDP, gateway.ServiceSSOSP}
	o.moodle = &gateway.Peer{Wwwroot: roots[1], Application: gateway.Moodle, Publish: sso, Subscribe: sso}
	o.mahara = &gateway.Peer{Wwwroot: roots[2], Application: gateway.Mahara, Publish: sso, Subscribe: sso}
	us := []*gateway.Peer{{Wwwroot: o.root}}
	var err error
	if o.forum, err = NewForum(ForumOptions{Wwwroot: roots[1], Key: newKey(t, roots[1].String()), Homes: us}); err != nil {
		t.Fatal(err)
	}
	if o.portfolio, err = NewMahara(MaharaOptions{Wwwroot: roots[2], Key: newKey(t, roots[2].String()), Peers: us}); err != nil {
		t.Fatal(err)
	}
	o.client = &mnet.Client{Keys: keys, Site: o.root}
	handlers[1].Handler, handlers[2].Handler = o.forum, o.portfolio
	certificates := map[string]*gateway.Certificate{}
	for _, p := range []*gateway.Peer{o.moodle, o.mahara} {
		if certificates[p.Wwwroot.String()], err = o.client.Keyswap(t.Context(), p.Wwwroot, p.Application); err != nil {
			t.Fatal(err)
		}
	}
	o.server = &mnet.Server{
		Site: o.root, Keys: keys,
		Peer: func(_ context.Context, name string) (*gateway.Peer, *gateway.Certificate, error) {
			for _, p := range []*gateway.Peer{o.moodle, o.mahara} {
				if p.Wwwroot.String() == name {
					return p, certificates[name], nil
				}
			}
			return nil, nil, nil
		},
		Methods: []mnet.Method{{
			Name: "auth/mnet/auth.php/user_authorise", Service: gateway.ServiceSSOIDP, MinParams: 2,
			Call: func(_ context.Context, c *mnet.Call) (mnet.Value, error) {
				if c.Param(0) != "token" {
					return nil, &mnet.Fault{Code: mnet.FaultNoSession, String: "no <session> & no \"token\""}
				}
				return mnet.Struct{{Name: "username", Value: "ada"}, {Name: "firstname", Value: "Čapek & \"co\" <x>\nč"}, {Name: "myhosts", Value: mnet.Array{}}}, nil
			},
		}},
	}
	handlers[0].Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/publickey.php") {
			w.Write([]byte(keys()[0].Certificate().PEM()))
			return
		}
		o.server.ServeHTTP(w, r)
	})
	return o
}

// rotate gives us a new key and archives the former one.
func (o *ours) rotate(t *testing.T) {
	keys := append([]*mnet.Key{newKey(t, o.root.String())}, *o.keys.Load()...)
	o.keys.Store(&keys)
}

type caller interface {
	Call(ctx context.Context, wwwroot, method string, params ...mnet.Value) (mnet.Value, error)
}

// What package mnet answers, a Moodle and a Mahara read rightly: values,
// faults and new keys.
func TestOurAnswersAreReadRightly(t *testing.T) {
	o := newOurs(t)
	const method = "auth/mnet/auth.php/user_authorise"
	want := mnet.Struct{{Name: "username", Value: "ada"}, {Name: "firstname", Value: "Čapek & \"co\" <x>\nč"}, {Name: "myhosts", Value: mnet.Array{}}}
	for who, site := range map[string]caller{"a Moodle": o.forum, "a Mahara": o.portfolio} {
		v, err := site.Call(t.Context(), o.root.String(), method, "token", "browser")
		if diff := cmp.Diff(mnet.Value(want), v); diff != "" || err != nil {
			t.Errorf("%s reads %v\n%s", who, err, diff)
		}
		_, err = site.Call(t.Context(), o.root.String(), method, "another", "browser")
		if fault, ok := errors.AsType[*mnet.Fault](err); !ok || fault.Code != 1 || fault.String != "no <session> & no \"token\"" {
			t.Errorf("%s reads %v", who, err)
		}
		_, err = site.Call(t.Context(), o.root.String(), "system/listServices")
		expectError(t, who, err, "")
	}
	o.rotate(t)
	_, err := o.forum.Call(t.Context(), o.root.String(), method, "token", "browser")
	expectError(t, "a Moodle", err, "")
	// A Mahara takes the key and drops the answer.
	for _, want := range []string{"unknown error occurred: : ", ""} {
		_, err = o.portfolio.Call(t.Context(), o.root.String(), method, "token", "browser")
		expectError(t, "a Mahara", err, want)
	}
}

// What package mnet calls, a Moodle and a Mahara read rightly, and it reads
// what they answer.
func TestOurCallsAreReadRightly(t *testing.T) {
	o := newOurs(t)
	pins := &mnet.Pins{Dir: t.TempDir(), Fetch: o.client.FetchCertificate}
	c := &mnet.Caller{Client: o.client, Pins: pins}
	for _, p := range []*gateway.Peer{o.moodle, o.mahara} {
		v, err := c.Call(t.Context(), p, "auth/mnet/auth.php/kill_child", "ada", "browser")
		if v != false || err != nil {
			t.Errorf("kill_child of %s: %v, %v", p.Application, v, err)
		}
		v, err = c.Call(t.Context(), p, "system/listServices")
		if list, ok := v.(mnet.Array); !ok || len(list) < 2 || err != nil {
			t.Errorf("listServices of %s: %v, %v", p.Application, v, err)
		}
		_, err = c.Call(t.Context(), p, "auth/mnet/auth.php/nonesuch")
		fault, ok := errors.AsType[*mnet.Fault](err)
		if want := map[gateway.Application]int{gateway.Moodle: mnet.FaultNoMethod}[p.Application]; !ok || fault.Code != want || fault.Unauthenticated != (p == o.mahara) {
			t.Errorf("nonesuch of %s: %v", p.Application, err)
		}
	}

	// A Moodle's new key comes signed with the old one and is taken; a
	// Mahara's with the new one, and waits for an administrator.
	o.forum.ArchiveKey(newKey(t, o.moodle.Wwwroot.String()))
	_, err := c.Call(t.Context(), o.moodle, "system/listServices")
	expectError(t, "the caller", err, "")
	renewed := newKey(t, o.mahara.Wwwroot.String())
	o.portfolio.ArchiveKey(renewed)
	_, err = c.Call(t.Context(), o.mahara, "system/listServices")
	if held, ok := errors.AsType[*mnet.HeldKeyError](err); !ok || held.Certificate.Fingerprint() != renewed.Certificate().Fingerprint() {
		t.Errorf("a Mahara's new key: %v", err)
	}

	// Until then its answers to calls that no key of its fits are a sentence.
	_, err = o.client.Call(t.Context(), o.mahara, newKey(t, o.mahara.Wwwroot.String()).Certificate(), "system/listServices")
	if _, held := errors.AsType[*mnet.HeldKeyError](err); err == nil || held {
		t.Errorf("a sentence in place of a key: %v", err)
	}
	accepted := *o.mahara
	accepted.Certificate = renewed.Certificate()
	_, err = c.Call(t.Context(), &accepted, "system/listServices")
	expectError(t, "the caller", err, "")
}
