// Package sp is the service-provider role: what a site does for learners
// whose home is somewhere else.
package sp

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
)

// Homes remembers in a cookie which home a browser's learner comes from, so
// that a deep link followed without a session can be taken there. The cookie
// is a JWT that the site signs for itself; it proves nothing about a person
// and is only ever used to choose among the peers of the allowlist.
type Homes struct {
	Site    gateway.Wwwroot
	Aliases []gateway.Wwwroot // of the site: what it remembered under them holds
	Peers   *gateway.Allowlist
	Keys    func() [][32]byte // HS256: the first signs, all verify; the same for all gateways of the site
	Now     func() time.Time
}

const (
	homeLifetime = 180 * 24 * time.Hour
	homeAudience = "jumpgate-home"
)

// homeClaims names the home as the subject.
type homeClaims = jwt.RegisteredClaims

// Cookie returns the cookie that remembers home.
func (h *Homes) Cookie(home *gateway.Peer) (*http.Cookie, error) {
	now := h.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, homeClaims{
		Issuer:    h.Site.String(),
		Audience:  jwt.ClaimStrings{homeAudience},
		Subject:   home.Wwwroot.String(),
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(homeLifetime)),
	}).SignedString(h.Keys()[0][:])
	if err != nil {
		return nil, fmt.Errorf("signing the remembered home: %w", err)
	}
	return &http.Cookie{
		Name: h.Site.CookieName("home"), Value: token, Path: "/", MaxAge: int(homeLifetime / time.Second),
		HttpOnly: true, Secure: h.Site.Scheme() == "https", SameSite: http.SameSiteLaxMode,
	}, nil
}

// errNoHome says that a browser's home is not known.
var errNoHome = errors.New("no home is remembered")

// Home returns the home that a request's cookie names, if the cookie is our
// own, not expired, and the home is still a peer.
func (h *Homes) Home(r *http.Request) (*gateway.Peer, error) {
	home, err := h.home(r, h.Site)
	for i := 0; i < len(h.Aliases) && errors.Is(err, errNoHome); i++ {
		home, err = h.home(r, h.Aliases[i])
	}
	return home, err
}

// home is Home for the cookie of the site under one of its names.
func (h *Homes) home(r *http.Request, site gateway.Wwwroot) (*gateway.Peer, error) {
	cookie, err := r.Cookie(site.CookieName("home"))
	if err != nil {
		return nil, errNoHome
	}
	var claims homeClaims
	_, err = jwt.ParseWithClaims(cookie.Value, &claims,
		h.verificationKeys,
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithIssuer(site.String()),
		jwt.WithAudience(homeAudience),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(h.Now))
	if err != nil {
		return nil, fmt.Errorf("remembered home: %w", err)
	}
	home := h.Peers.Find(claims.Subject)
	if home == nil || home.Standing(h.Now()) != gateway.RuleOK {
		return nil, fmt.Errorf("remembered home %q is no peer any more", claims.Subject)
	}
	return home, nil
}

func (h *Homes) verificationKeys(*jwt.Token) (any, error) {
	var set jwt.VerificationKeySet
	for _, key := range h.Keys() {
		set.Keys = append(set.Keys, key[:])
	}
	return set, nil
}

// Remember adds the cookie to an answer that logs a learner of home in.
func (h *Homes) Remember(header http.Header, home *gateway.Peer) {
	if cookie, err := h.Cookie(home); err == nil {
		header.Add("Set-Cookie", cookie.String())
	}
}
