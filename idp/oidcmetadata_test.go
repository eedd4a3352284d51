package idp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// answers is a transport that answers itself.
type answers func(*http.Request) (string, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := a(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

const issuer = "https://login.test"

func metadataOf(login string) string {
	return fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":"https://login.test/t","jwks_uri":"https://login.test/k"}`, issuer, login)
}

func newTestOpenID(a answers) *OpenID {
	o := NewOpenID(OpenIDOptions{Issuer: issuer, ClientID: "x"})
	o.client.Transport = strict{a, false}
	return o
}

func TestOneAsksForTheMetadataOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		o := newTestOpenID(func(r *http.Request) (string, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			return metadataOf("https://login.test/a"), r.Context().Err()
		})
		gone, leave := context.WithCancel(t.Context())
		defer leave()
		var all sync.WaitGroup
		for i := range 50 {
			ctx := t.Context()
			if i == 0 {
				ctx = gone // whoever asks for all may go away
			}
			all.Go(func() {
				if _, err := o.discover(ctx); err != nil && i > 0 {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait()
				leave()
			}
		}
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(metadataLife - 2*time.Second)
		o.discover(t.Context())
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times within a day", n)
		}
		time.Sleep(2 * time.Second)
		o.discover(t.Context())
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times in two days", n)
		}
	})
}

func TestAProviderThatDoesNotAnswerIsAskedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		var up atomic.Bool
		o := newTestOpenID(func(r *http.Request) (string, error) {
			asked.Add(1)
			if up.Load() {
				return metadataOf("https://login.test/a"), nil
			}
			<-r.Context().Done()
			return "", r.Context().Err()
		})
		start := time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if _, err := o.discover(t.Context()); err == nil {
					t.Error("found something")
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took > providerTimeout || asked.Load() != 1 {
			t.Errorf("%d asked, and all waited %s", asked.Load(), took)
		}
		limited, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.Sleep(metadataRetry)
		all.Go(func() { o.discover(t.Context()) })
		synctest.Wait()
		if _, err := o.discover(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who cannot wait gets %v", err)
		}
		all.Wait()
		up.Store(true)
		time.Sleep(metadataRetry)
		if _, err := o.discover(t.Context()); err != nil {
			t.Error(err)
		}
		// What it said once is good for as long as it says nothing else.
		up.Store(false)
		time.Sleep(metadataLife)
		before := asked.Load()
		for range 3 {
			if found, err := o.discover(t.Context()); err != nil || found == nil {
				t.Errorf("a day later: %v", err)
			}
		}
		if n := asked.Load() - before; n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestMetadataThatCannotBeUsed(t *testing.T) {
	for _, test := range []struct{ name, said, want string }{
		{"another issuer", strings.Replace(metadataOf("https://login.test/a"), issuer, "https://evil.test", 1), "did not match"},
		{"no JSON", "<html>" + strings.Repeat("x", 10000), "failed to decode"},
		{"no login page", metadataOf(""), "not an https address"},
		{"a login page without TLS", metadataOf("http://login.test/a"), "not an https address"},
		{"a login page on this machine", metadataOf("http://127.0.0.1/a"), "not an https address"},
		{"a login page that is script", metadataOf("javascript:alert(1)"), "not an https address"},
		{"too much", strings.Repeat(" ", maxProvided) + metadataOf("https://login.test/a"), "too large"},
	} {
		o := newTestOpenID(func(*http.Request) (string, error) { return test.said, nil })
		if _, err := o.discover(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 400 {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestNothingIsSentWithoutTLS(t *testing.T) {
	refused := 0
	o := newTestOpenID(func(r *http.Request) (string, error) { return "", fmt.Errorf("sent to %s", r.URL) })
	for _, address := range []string{"http://login.test/t", "http://127.0.0.1/t", "ftp://login.test/"} {
		if _, err := o.client.Get(address); err != nil && strings.Contains(err.Error(), "not an https address") {
			refused++
		}
	}
	if refused != 3 {
		t.Errorf("%d of 3 were refused", refused)
	}
}
