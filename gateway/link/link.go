// Package link makes and verifies signed deep links: a jump link whose
// parameter link is a JWT that says which page of which forum it leads to, for
// which home, and perhaps for whom. The forum signs it with its MNet key, so
// that the handshake of the two sites is the trust.
package link

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
)

const (
	tokenType = "jumpgate-link+jwt"

	maxToken = 8 << 10 // bytes; a wantsurl of 2,048 needs some 4,000
	maxID    = 128
)

// method is the only one: RSASSA-PKCS1-v1_5 with SHA-256.
var method = jwt.SigningMethodRS256

// claims are those of a link: issuer (the forum), audience (the home), expiry,
// id, and the subject if the link is for somebody.
type claims struct {
	jwt.RegisteredClaims
	Wantsurl string `json:"wantsurl"`
}

// Signer is the MNet key of a site: a *mnet.Key.
type Signer interface {
	Certificate() *gateway.Certificate
	SignSHA256(message []byte) ([]byte, error)
}

// Link is a deep link that a site signs.
type Link struct {
	Site     gateway.Wwwroot // the forum, whose page it is
	Home     gateway.Wwwroot // where learners jump from
	Page     gateway.Target
	Username string // at Home, whom it is for; empty for everybody
	Expires  time.Time
}

// Sign returns the token that makes the link a signed one (see gateway.Signed),
// and the id by which the home can revoke it.
func Sign(key Signer, l Link) (token, id string, err error) {
	id = rand.Text()
	c := claims{
		Wantsurl: l.Page.String(),
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: l.Site.String(), Audience: jwt.ClaimStrings{l.Home.String()}, ExpiresAt: jwt.NewNumericDate(l.Expires), ID: id,
		},
	}
	if l.Username != "" {
		c.Subject = gateway.LinkSubject(l.Home, l.Username)
	}
	unsigned := &jwt.Token{Method: method, Claims: c, Header: map[string]any{
		"typ": tokenType, "alg": method.Alg(), "kid": kidOf(key.Certificate()),
	}}
	text, err := unsigned.SigningString()
	if err != nil {
		return "", "", fmt.Errorf("sign link: %w", err)
	}
	signature, err := key.SignSHA256([]byte(text))
	if err != nil {
		return "", "", fmt.Errorf("sign link: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), id, nil
}

// kidOf names a certificate: 64 lower-case hexadecimal digits.
func kidOf(c *gateway.Certificate) string {
	f := c.Fingerprint()
	return hex.EncodeToString(f[:])
}

// Read returns the id and the expiry of a signed link or of its token, without
// verifying anything: for who wants to revoke it.
func Read(text string) (id string, expires time.Time, err error) {
	if _, query, ok := strings.Cut(text, "?"); ok {
		values, err := url.ParseQuery(query)
		if err != nil || len(values["link"]) != 1 {
			return "", time.Time{}, errors.New("the link is not signed")
		}
		text = values.Get("link")
	}
	var c claims
	if len(text) > maxToken {
		return "", time.Time{}, errors.New("the token is too long")
	}
	if _, _, err := jwt.NewParser().ParseUnverified(text, &c); err != nil || !WellFormedID(c.ID) || c.ExpiresAt == nil {
		return "", time.Time{}, errors.New("the token is not one that signs a link")
	}
	return c.ID, c.ExpiresAt.Time, nil
}

// WellFormedID reports whether a link may have this id: printable ASCII that
// stands in logs as it is.
func WellFormedID(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(c rune) bool { return c <= 0x20 || c > 0x7e || c == '"' || c == '\\' })
}
