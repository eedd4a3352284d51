// Package openidtest is an OpenID provider for tests. Its one account is
// logged in already, so its login page answers at once with the way back. It
// is strict about what a client sends, and misbehaves on demand.
package openidtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Client is what is registered at the provider.
type Client struct {
	ID       string
	Secret   string // empty for a public client
	Callback string
}

// Behaviour is what the provider does, and may be changed while it runs.
type Behaviour struct {
	Claims   map[string]any // of the account, in the ID token; they win over the usual ones
	UserInfo map[string]any // at the userinfo endpoint; nil if there is none
	Methods  []string       // token_endpoint_auth_methods_supported; nil to say nothing
	Refusal  string         // the error with which the login page sends back
	Issuer   string         // in the metadata, if it is not the provider's

	// Sign signs an ID token instead of the provider.
	Sign func(jwt.MapClaims) string
	// Answer answers a request instead of the provider, and says whether it did.
	Answer func(w http.ResponseWriter, r *http.Request) bool
}

// Provider is an OpenID provider.
type Provider struct {
	Issuer string
	Key    *rsa.PrivateKey // signs ID tokens

	client Client
	mu     sync.Mutex
	does   Behaviour
	codes  map[string]url.Values // of a code: the query of the login page
	tokens map[string]bool       // access tokens
	asked  map[string]int        // requests by the end of their path
}

// key is the key of all providers of a process: making one takes a while.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// Start starts a provider on a loopback port, and ends it with the test.
func Start(t testing.TB, client Client, does Behaviour) *Provider {
	t.Helper()
	p := &Provider{Key: key(), client: client, does: does, codes: map[string]url.Values{}, tokens: map[string]bool{}, asked: map[string]int{}}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.Issuer = server.URL + "/realms/college"
	return p
}

// Register registers another client instead of the one that there is.
func (p *Provider) Register(client Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = client
}

func (p *Provider) registered() Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client
}

// Change changes what the provider does.
func (p *Provider) Change(change func(*Behaviour)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.does)
}

// Asked returns how often a page was asked for: login, token, keys, userinfo
// or openid-configuration.
func (p *Provider) Asked(page string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[page]
}

func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	p.mu.Lock()
	p.asked[page]++
	does := p.does
	p.mu.Unlock()
	if does.Answer != nil && does.Answer(w, r) {
		return
	}
	switch page {
	case "openid-configuration":
		p.metadata(w, does)
	case "login":
		p.login(w, r, does)
	case "token":
		p.token(w, r, does)
	case "keys":
		reply(w, http.StatusOK, map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "use": "sig", "kid": "one", "alg": "RS256",
			"n": base64.RawURLEncoding.EncodeToString(p.Key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(p.Key.E)).Bytes()),
		}}})
	case "userinfo":
		p.userinfo(w, r, does)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) metadata(w http.ResponseWriter, does Behaviour) {
	m := map[string]any{
		"issuer":                                p.Issuer,
		"authorization_endpoint":                p.Issuer + "/login",
		"token_endpoint":                        p.Issuer + "/token",
		"jwks_uri":                              p.Issuer + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
	}
	if does.Issuer != "" {
		m["issuer"] = does.Issuer
	}
	if does.UserInfo != nil {
		m["userinfo_endpoint"] = p.Issuer + "/userinfo"
	}
	if does.Methods != nil {
		m["token_endpoint_auth_methods_supported"] = does.Methods
	}
	reply(w, http.StatusOK, m)
}

// login sends the browser back with a code, if the client asked as it should.
func (p *Provider) login(w http.ResponseWriter, r *http.Request, does Behaviour) {
	q, client := r.URL.Query(), p.registered()
	challenge, err := base64.RawURLEncoding.DecodeString(q.Get("code_challenge"))
	switch {
	case r.Method != http.MethodGet, q.Get("response_type") != "code", q.Get("client_id") != client.ID,
		q.Get("redirect_uri") != client.Callback, !slices.Contains(strings.Fields(q.Get("scope")), "openid"),
		q.Get("code_challenge_method") != "S256", err != nil, len(challenge) != sha256.Size,
		len(q.Get("state")) < 22, len(q.Get("nonce")) < 22:
		http.Error(w, "the client asks for something else: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	back := url.Values{"state": q["state"], "iss": {p.Issuer}}
	if does.Refusal != "" {
		back.Set("error", does.Refusal)
		back.Set("error_description", "as the test wants it")
	} else {
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = q
		p.mu.Unlock()
		back.Set("code", code)
	}
	http.Redirect(w, r, client.Callback+"?"+back.Encode(), http.StatusSeeOther)
}

// token exchanges a code, once, for an ID token.
func (p *Provider) token(w http.ResponseWriter, r *http.Request, does Behaviour) {
	client := p.registered()
	id, secret, basic := r.BasicAuth()
	if basic { // RFC 6749, section 2.3.1
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	wantBasic := client.Secret != "" && (does.Methods == nil || slices.Contains(does.Methods, "client_secret_basic"))
	if r.Method != http.MethodPost || id != client.ID || secret != client.Secret || basic != wantBasic {
		reply(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	access := rand.Text()
	p.mu.Lock()
	asked, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	p.tokens[access] = true
	p.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("redirect_uri") != client.Callback ||
		base64.RawURLEncoding.EncodeToString(challenge[:]) != asked.Get("code_challenge") {
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	hash := sha256.Sum256([]byte(access))
	claims := jwt.MapClaims{
		"iss": p.Issuer, "aud": client.ID, "sub": "4711", "nonce": asked.Get("nonce"),
		"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
		"at_hash": base64.RawURLEncoding.EncodeToString(hash[:16]),
	}
	maps.Copy(claims, does.Claims)
	sign := does.Sign
	if sign == nil {
		sign = p.Sign
	}
	reply(w, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": sign(claims)})
}

// Sign signs an ID token as the provider does. Claims that are nil are left out.
func (p *Provider) Sign(claims jwt.MapClaims) string {
	return SignWith(jwt.SigningMethodRS256, p.Key, claims)
}

// SignWith signs an ID token with another method or key, under the key id of
// the provider's own.
func SignWith(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = "one"
	signed, err := token.SignedString(key)
	if err != nil {
		panic(fmt.Sprintf("openidtest: %v", err)) // a test asks for what cannot be
	}
	return signed
}

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request, does Behaviour) {
	access, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	known := p.tokens[access]
	p.mu.Unlock()
	if !known || does.UserInfo == nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	reply(w, http.StatusOK, does.UserInfo)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
