package idp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// OpenIDOptions says at which OpenID provider a home's learners have their
// accounts.
type OpenIDOptions struct {
	Issuer       string // exactly as the provider spells it; https, or a loopback address
	ClientID     string
	ClientSecret string // empty for a public client
	Scopes       []string
	Callback     string // the address of ours that the provider knows
	Claims       Claims
	Usernames    *gateway.Usernames
	Session      time.Duration    // how long a login spares the learner another visit there
	Now          func() time.Time // nil means time.Now
}

// OpenID is an OpenID provider, seen as its client. Its metadata are
// asked for when they are needed first, so that it may be down when we start.
type OpenID struct {
	OpenIDOptions
	client *http.Client

	asking chan struct{} // held by who asks for the metadata
	found  atomic.Pointer[metadata]
	failed error // of the last who asked; guarded by asking
	retry  time.Time
}

// metadata is what a provider says about itself.
type metadata struct {
	provider *oidc.Provider
	keys     oidc.KeySet
	oauth    oauth2.Config
	until    time.Time // when to ask again
}

// Limits of what a provider makes us wait for and read.
const (
	providerTimeout = 10 * time.Second // of one request
	loginTimeout    = 20 * time.Second // of all that a login takes
	maxProvided     = 1 << 20          // bytes of one answer
	metadataLife    = 24 * time.Hour
	metadataRetry   = 5 * time.Second // after a failure, for all who ask
)

// NewOpenID returns a client of an OpenID provider. It does not connect.
func NewOpenID(o OpenIDOptions) *OpenID {
	if o.Now == nil {
		o.Now = time.Now
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.ResponseHeaderTimeout = providerTimeout
	return &OpenID{OpenIDOptions: o, asking: make(chan struct{}, 1), client: &http.Client{
		// A proxy that HTTPS_PROXY names sees a tunnel and no secret, since
		// strict lets nothing through without TLS but to this machine.
		Transport: strict{transport, strings.HasPrefix(o.Issuer, "http:")},
		Timeout:   providerTimeout,
		// What we send is for this address alone, and what we ask for is there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// strict is a transport that speaks TLS, does not read for ever, and takes a
// server that fails, or breaks off, for one that does not answer: those who
// read the answers do not tell such errors from what the server says.
type strict struct {
	next     http.RoundTripper
	loopback bool // the issuer is one of this machine, without TLS
}

func (s strict) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.safe(r.URL) {
		return nil, errors.New("not an https address")
	}
	res, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, gateway.Unquoted(err)
	}
	if res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests {
		res.Body.Close()
		return nil, fmt.Errorf("answered with status %d", res.StatusCode)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, res.Body, maxProvided))
	res.Body.Close()
	if err != nil {
		return nil, gateway.Unquoted(err)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

func (s strict) safe(u *url.URL) bool {
	return u.Scheme == "https" || s.loopback && u.Scheme == "http" && gateway.LoopbackHost(u.Hostname())
}

// errNotVouched says that the provider does not vouch for a login, as opposed
// to one that could not be asked.
var errNotVouched = errors.New("the provider does not vouch for the login")

// discover returns the provider's metadata, as it last said them. Of many who
// need them at once one asks, and a failure holds for all of them, so that
// nobody waits longer than for one answer.
func (o *OpenID) discover(ctx context.Context) (*metadata, error) {
	if found := o.found.Load(); found != nil && o.Now().Before(found.until) {
		return found, nil
	}
	select {
	case o.asking <- struct{}{}:
		defer func() { <-o.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	found, now := o.found.Load(), o.Now()
	switch {
	case found != nil && now.Before(found.until):
		return found, nil
	case now.Before(o.retry):
		return found, o.failed
	}
	fresh, err := o.ask(context.WithoutCancel(ctx)) // the others need it too
	switch {
	case err == nil:
		fresh.until = now.Add(metadataLife)
		o.found.Store(fresh)
		return fresh, nil
	case found != nil:
		err = nil // what it said yesterday will do
	}
	o.failed, o.retry = err, o.Now().Add(metadataRetry)
	return found, err
}

// ask asks the provider for its metadata (OpenID Connect Discovery 1.0).
func (o *OpenID) ask(ctx context.Context) (*metadata, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, o.client), providerTimeout)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, o.Issuer)
	if err != nil {
		return nil, fmt.Errorf("openid provider: discovery: %w", short(err))
	}
	var said struct {
		Authorization string   `json:"authorization_endpoint"`
		Keys          string   `json:"jwks_uri"`
		Methods       []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := provider.Claims(&said); err != nil {
		return nil, fmt.Errorf("openid provider: discovery: %w", short(err))
	}
	at, err := url.Parse(said.Authorization)
	if err != nil || at.Host == "" || !o.client.Transport.(strict).safe(at) {
		return nil, fmt.Errorf("openid provider: discovery: authorization_endpoint %.100q is not an https address", said.Authorization)
	}
	found := &metadata{
		provider: provider,
		keys:     oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), o.client), said.Keys),
		oauth: oauth2.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: o.Callback, Scopes: o.Scopes,
			Endpoint: provider.Endpoint(),
		},
	}
	// Said here, since trying out what works would send the code twice.
	found.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if o.ClientSecret == "" || len(said.Methods) > 0 && !slices.Contains(said.Methods, "client_secret_basic") {
		found.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return found, nil
}

// loginPage returns the address where the provider lets a learner log in for a
// jump. The learner comes back to Callback with the state.
func (o *OpenID) loginPage(found *metadata, state string, jump store.Jump) string {
	return found.oauth.AuthCodeURL(state, oidc.Nonce(jump.Nonce), oauth2.S256ChallengeOption(jump.Verifier))
}

// leads reports whether an address is that of the provider's login, by what it
// said about itself.
func (o *OpenID) leads(address string) bool {
	found := o.found.Load()
	if found == nil {
		return false
	}
	rest, ok := strings.CutPrefix(address, found.oauth.Endpoint.AuthURL)
	return ok && rest != "" && (rest[0] == '?' || rest[0] == '&')
}

// algorithms are those by which a provider signs with a key that only it has.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// redeem exchanges the code of a login for what the provider says about its
// user. Errors wrap errNotVouched unless it could not be asked.
func (o *OpenID) redeem(ctx context.Context, code string, jump store.Jump) (claims, error) {
	found, err := o.discover(ctx)
	if err != nil {
		return nil, err
	}
	ctx = oidc.ClientContext(ctx, o.client)
	token, err := found.oauth.Exchange(ctx, code, oauth2.VerifierOption(jump.Verifier))
	if err != nil {
		return nil, exchangeError(err)
	}
	keys := &keySet{KeySet: found.keys}
	raw, _ := token.Extra("id_token").(string)
	verifier := oidc.NewVerifier(o.Issuer, keys, &oidc.Config{ClientID: o.ClientID, SupportedSigningAlgs: algorithms, Now: o.Now})
	id, err := verifier.Verify(ctx, raw)
	switch {
	case unanswered(keys.err):
		return nil, fmt.Errorf("openid provider: keys: %w", short(keys.err))
	case err != nil:
		return nil, notVouched("id token: %w", short(err))
	case id.Nonce != jump.Nonce:
		return nil, notVouched("the id token is of another login")
	case id.Subject == "":
		return nil, notVouched("the id token is about nobody")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken) != nil:
		return nil, notVouched("the id token came with another access token")
	}
	said := claims{}
	if err := id.Claims(&said); err != nil {
		return nil, notVouched("id token: %w", short(err))
	}
	// For whom it was issued, where several may take it for theirs (OpenID
	// Connect Core 1.0, section 3.1.3.7).
	if azp := said.exact("azp"); azp != o.ClientID && (azp != "" || len(id.Audience) > 1) {
		return nil, notVouched("the id token was issued for %.100q", azp)
	}
	if o.Claims.complete(said) {
		return said, nil
	}
	return o.more(ctx, found, token, id.Subject, said)
}

// more adds what the provider tells at its userinfo endpoint to what it said
// in the ID token.
func (o *OpenID) more(ctx context.Context, found *metadata, token *oauth2.Token, subject string, said claims) (claims, error) {
	if found.provider.UserInfoEndpoint() == "" {
		return said, nil
	}
	info, err := found.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	switch {
	case unanswered(err):
		return nil, fmt.Errorf("openid provider: userinfo: %w", short(err))
	case err != nil:
		return nil, notVouched("userinfo: %w", short(err))
	case info.Subject != subject:
		return nil, notVouched("userinfo is about somebody else")
	}
	more := claims{}
	if err := info.Claims(&more); err != nil {
		return nil, notVouched("userinfo: %w", short(err))
	}
	for name, value := range more {
		if _, has := said[name]; !has {
			said[name] = value
		}
	}
	return said, nil
}

// keySet remembers the error that a verifier wraps beyond recognition.
type keySet struct {
	oidc.KeySet
	err error
}

func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, jwt)
	k.err = err
	return payload, err
}

// exchangeError tells a code that is not good from a client that is not, which
// is for an administrator to repair, and from a provider that does not answer.
func exchangeError(err error) error {
	refusal, refused := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case refused && refusal.ErrorCode == "invalid_grant":
		return notVouched("token endpoint: %w", short(err))
	case refused && refusal.ErrorCode == "": // a page, which may repeat what it was sent
		return fmt.Errorf("openid provider: token endpoint: %s", refusal.Response.Status)
	case refused || unanswered(err):
		return fmt.Errorf("openid provider: token endpoint: %w", short(err))
	}
	return notVouched("token endpoint: %w", short(err))
}

// unanswered reports whether err says that the provider did not answer.
func unanswered(err error) bool {
	_, request := errors.AsType[*url.Error](err)
	return request || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func notVouched(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errNotVouched}, args...)...)
}

// short returns err without the pages that a provider may have answered with.
func short(err error) error {
	const limit = 300
	if text := err.Error(); len(text) > limit {
		return errors.New(strings.ToValidUTF8(text[:limit], "") + "…")
	}
	return err
}

// claims are what a provider says about a user.
type claims map[string]json.RawMessage
