package sp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// The addresses, below the wwwroot, of a Provider.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	AuthorizePath = "/jumpgate/oauth2/authorize"
	TokenPath     = "/jumpgate/oauth2/token"
	UserInfoPath  = "/jumpgate/oauth2/userinfo"
)

// Provider is an OpenID provider (OpenID Connect Core 1.0) for one client, the
// Moodle behind. A code comes into being where a learner lands, and goes to Moodle
// with the request that logs them in: no browser ever sees one, and whoever asks for
// authorization gets none.
type Provider struct {
	Site         gateway.Wwwroot // issuer
	ClientID     string
	ClientSecret string
	Codes        Codes
	Tokens       *Assertions // signs ID tokens; of AlgorithmRS256, which every client knows
	Now          func() time.Time
}

// Codes keeps what codes and access tokens stand for: store.Site.
type Codes interface {
	IssueCode(ctx context.Context, record []byte) (code string, err error)
	RedeemCode(ctx context.Context, code string) (record []byte, access string, err error)
	Access(ctx context.Context, token string) ([]byte, error)
}

// userInfo has the claims of a learner. City and country are not those of an address,
// which Moodle would take for a text.
type userInfo struct {
	Subject string `json:"sub"`
	person
	City    string `json:"city,omitempty"`
	Country string `json:"country,omitempty"`
}

// issue makes a code that stands for a newcomer, once, for half a minute.
func (p *Provider) issue(ctx context.Context, n Newcomer) (string, error) {
	u := n.Account
	record, err := json.Marshal(userInfo{Subject: n.subject(), person: personOf(u), City: u.City, Country: u.Country})
	if err != nil {
		return "", fmt.Errorf("code: %w", err)
	}
	return p.Codes.IssueCode(ctx, record)
}

// OAuthError is why a client gets no token (RFC 6749, section 5.2).
type OAuthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e *OAuthError) Error() string { return e.Code + ": " + e.Description }

// TokenAnswer is what a client gets for a code (RFC 6749, section 5.1; OpenID
// Connect Core 1.0, section 3.1.3.3).
type TokenAnswer struct {
	AccessToken string `json:"access_token"`
	Type        string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	IDToken     string `json:"id_token"`
	Scope       string `json:"scope"`
}

// Token redeems the code of a form for a client that says who it is, in the form or,
// if basic is not nil, by that. An *OAuthError says that the client is to blame.
func (p *Provider) Token(ctx context.Context, form url.Values, basic *url.Userinfo) (TokenAnswer, error) {
	for _, values := range form {
		if len(values) > 1 {
			return TokenAnswer{}, &OAuthError{"invalid_request", "a parameter is repeated"}
		}
	}
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if basic != nil {
		if id != "" && id != basic.Username() || secret != "" {
			return TokenAnswer{}, &OAuthError{"invalid_request", "the client says twice who it is"}
		}
		id = basic.Username()
		secret, _ = basic.Password()
	}
	if !same(id, p.ClientID) || !same(secret, p.ClientSecret) {
		return TokenAnswer{}, &OAuthError{"invalid_client", "the client id or the client secret is another one"}
	}
	switch callback := form.Get("redirect_uri"); {
	case form.Get("grant_type") != "authorization_code":
		return TokenAnswer{}, &OAuthError{"unsupported_grant_type", "grant_type is not authorization_code"}
	case callback != "" && callback != p.Site.String()+moodle.OAuth2CallbackPath:
		return TokenAnswer{}, &OAuthError{"invalid_grant", "redirect_uri is not that of this site's Moodle"}
	}
	return p.redeem(ctx, form.Get("code"))
}

// same reports, in constant time, whether a secret is the right one.
func same(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return want != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// idToken has the claims that OpenID Connect Core 1.0, section 2, wants.
type idToken struct {
	jwt.RegisteredClaims
	Audience string `json:"aud"` // one text, not a list
}

func (p *Provider) redeem(ctx context.Context, code string) (TokenAnswer, error) {
	record, access, err := p.Codes.RedeemCode(ctx, code)
	if errors.Is(err, store.ErrNoToken) {
		return TokenAnswer{}, &OAuthError{"invalid_grant", "there is no such code, or it was redeemed, or is too old"}
	}
	var who userInfo
	if err == nil {
		err = json.Unmarshal(record, &who)
	}
	if err != nil {
		return TokenAnswer{}, fmt.Errorf("redeem code: %w", err)
	}
	now := p.Now()
	key, err := p.Tokens.current(now)
	if err != nil {
		return TokenAnswer{}, fmt.Errorf("ID token: %w", err)
	}
	token, err := p.Tokens.signed(key, "JWT", idToken{Audience: p.ClientID, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: p.Site.String(), Subject: who.Subject, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(store.AccessLife)),
	}})
	if err != nil {
		return TokenAnswer{}, fmt.Errorf("ID token: %w", err)
	}
	return TokenAnswer{access, "Bearer", int64(store.AccessLife / time.Second), token, "openid profile email"}, nil
}

// UserInfo returns the claims that an access token stands for, as JSON, or
// store.ErrNoToken.
func (p *Provider) UserInfo(ctx context.Context, token string) ([]byte, error) {
	return p.Codes.Access(ctx, token)
}

// Discovery returns what a client has to know of the provider, as JSON (OpenID
// Connect Discovery 1.0, section 3).
func (p *Provider) Discovery() []byte {
	root := p.Site.String()
	text, err := json.Marshal(map[string]any{
		"issuer": root, "authorization_endpoint": root + AuthorizePath, "token_endpoint": root + TokenPath,
		"userinfo_endpoint": root + UserInfoPath, "jwks_uri": root + KeySetPath,
		"response_types_supported": []string{"code"}, "response_modes_supported": []string{"query"}, "grant_types_supported": []string{"authorization_code"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{p.Tokens.Algorithm},
		"scopes_supported":                      []string{"openid", "profile", "email"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"claims_supported":                      []string{"sub", "preferred_username", "name", "given_name", "family_name", "email", "locale", "city", "country"},
	})
	if err != nil { // it is our own
		panic(err)
	}
	return text
}

// WantedPage returns the page that a Moodle names when it sends a browser to ask for
// authorization: its state is the address of its login, and that has the page
// (source: auth/oauth2/login.php). It is path and query, as it came, or the front
// page.
func (p *Provider) WantedPage(query url.Values) string {
	front := p.Site.Path() + "/"
	state, err := url.Parse(query.Get("state"))
	if err != nil {
		return front
	}
	page, ok := cutOrigin(state.Query().Get("wantsurl"), p.Site)
	if !ok {
		return front
	}
	return page
}

// cutOrigin returns what follows the origin of a site in one of its addresses.
func cutOrigin(address string, site gateway.Wwwroot) (string, bool) {
	origin := site.Origin()
	if len(address) <= len(origin) || address[:len(origin)] != origin || address[len(origin)] != '/' {
		return "", false
	}
	return address[len(origin):], true
}
