package sp

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// Assertions tell an application who makes a request: JWTs that are signed for
// this application alone and good for a minute.
type Assertions struct {
	Site      gateway.Wwwroot // issuer and audience
	Algorithm string          // AlgorithmEdDSA or AlgorithmRS256
	Keys      func() []*mnet.Key
	Now       func() time.Time

	keys signingKeys
}

const (
	// AssertionLife is from iat to exp.
	AssertionLife = time.Minute
	// assertionSkew is how far behind the clock of an application may be.
	assertionSkew = 5 * time.Second
	// assertionType keeps what else the site signs from being taken for an
	// assertion, and the other way round (RFC 8725, section 3.11).
	assertionType = "jumpgate-assertion+jwt"
)

// assertion has the claims of OpenID Connect where there are some. Nothing that
// an application might take for the name of an account is the same for two
// learners: what they are called at home is home_username.
type assertion struct {
	jwt.RegisteredClaims
	Audience     string          `json:"aud"` // one text, not a list
	Home         gateway.Wwwroot `json:"home"`
	HomeUsername string          `json:"home_username"`
	person
	Address *address `json:"address,omitempty"`
}

// person has the claims that tell who an account belongs to (OpenID Connect Core 1.0,
// section 5.1).
type person struct {
	PreferredUsername string `json:"preferred_username"`
	Name              string `json:"name"`
	GivenName         string `json:"given_name"`
	FamilyName        string `json:"family_name"`
	Email             string `json:"email"`
	EmailVerified     bool   `json:"email_verified"` // never: it is what the home says
	Locale            string `json:"locale,omitempty"`
}

func personOf(u gateway.User) person {
	return person{
		PreferredUsername: u.Username, Name: fullName(u), GivenName: u.FirstName, FamilyName: u.LastName, Email: u.Email, Locale: locale(u.Lang),
	}
}

type address struct {
	Locality string `json:"locality,omitempty"`
	Country  string `json:"country,omitempty"`
}

// Sign returns a new assertion about who has a session.
func (s *Assertions) Sign(session store.AppSession) (string, error) {
	now := s.Now()
	key, err := s.current(now)
	if err != nil {
		return "", fmt.Errorf("assertion: %w", err)
	}
	u := session.User
	c := assertion{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.Site.String(), Subject: u.Username, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-assertionSkew)), ExpiresAt: jwt.NewNumericDate(now.Add(AssertionLife)),
		},
		Audience: s.Site.String(), Home: session.Home, HomeUsername: session.Username, person: personOf(u),
	}
	if u.City != "" || u.Country != "" {
		c.Address = &address{u.City, u.Country}
	}
	text, err := s.signed(key, assertionType, c)
	if err != nil {
		return "", fmt.Errorf("assertion: %w", err)
	}
	return text, nil
}

// signed returns a token of a type, with these claims.
func (s *Assertions) signed(key *signingKey, typ string, c jwt.Claims) (string, error) {
	unsigned := &jwt.Token{Method: key.method, Claims: c, Header: map[string]any{"typ": typ, "alg": key.method.Alg(), "kid": key.id}}
	text, err := unsigned.SigningString()
	if err != nil {
		return "", err
	}
	signature, err := key.sign([]byte(text))
	if err != nil {
		return "", err
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// locale writes the name of a language pack of Moodle's as BCP 47 does: en_gb is
// en-GB. Of a variant that is no country, such as de_kids, the language is left.
func locale(lang string) string {
	language, rest, _ := strings.Cut(lang, "_")
	if country, _, _ := strings.Cut(rest, "_"); len(country) == 2 {
		return language + "-" + strings.ToUpper(country)
	}
	return language
}
