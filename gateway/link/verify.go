package link

import (
	"context"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"jumpgate/gateway"
)

// Verifier verifies signed links at the home that they lead through.
type Verifier struct {
	Site    gateway.Wwwroot
	Aliases []gateway.Wwwroot // of the site, for which a link may have been signed before it moved
	MaxLife time.Duration     // how far ahead a link may expire

	// Certificates returns those that a peer has had, the current one last.
	// Refresh asks the peer for one that we do not know yet, and returns nil if
	// there is none; it sees to it that nobody is asked too often. Both are
	// required.
	Certificates func(context.Context, *gateway.Peer) ([]*gateway.Certificate, error)
	Refresh      func(ctx context.Context, peer *gateway.Peer, known *gateway.Certificate) (*gateway.Certificate, error)

	Now func() time.Time // nil for time.Now
}

// refreshTime bounds what a learner waits while a peer is asked for a new key.
const refreshTime = 3 * time.Second

// parser takes tokens of our kind alone. The claims are judged afterwards.
var parser = jwt.NewParser(jwt.WithValidMethods([]string{method.Alg()}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())

// Verify says what the token of a jump link is worth. peer and page are where
// the jump leads by the rules, wantsurl is what the link says; an empty token is
// none. Whether the link was revoked is for the caller to find out.
func (v *Verifier) Verify(ctx context.Context, token string, peer *gateway.Peer, wantsurl string, page gateway.Target) gateway.Signature {
	switch {
	case token == "":
		return gateway.Signature{}
	case len(token) > maxToken:
		return gateway.Signature{Rule: gateway.RuleSignatureMalformed}
	}
	var c claims
	var key *gateway.Certificate
	wrong := gateway.RuleSignatureMalformed // until there is a key
	_, err := parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, ok := t.Header["kid"].(string)
		// Further fields would want to say something that we do not heed.
		if !ok || len(t.Header) != 3 || t.Header["typ"] != tokenType {
			return nil, errors.New("not a token that signs a link")
		}
		if key = v.key(ctx, peer, kid); key == nil {
			wrong = gateway.RuleSignatureKey
			return nil, errors.New("not a key of the peer")
		}
		wrong = gateway.RuleSignatureInvalid
		return key.PublicKey, nil
	})
	if err != nil {
		return gateway.Signature{Rule: wrong}
	}
	return gateway.Signature{Rule: v.judge(c, peer, wantsurl, page), ID: c.ID, Subject: c.Subject}
}

// key returns the certificate that a key id names, if the peer has or had it.
// The holder of a former key could go on signing: that ends when the last link
// ends that was signed while its certificate was good.
func (v *Verifier) key(ctx context.Context, peer *gateway.Peer, kid string) *gateway.Certificate {
	known, err := v.Certificates(ctx, peer)
	if err != nil || len(known) == 0 {
		return nil
	}
	current := known[len(known)-1]
	for _, cert := range known {
		if kidOf(cert) == kid && (cert == current || v.now().Before(cert.NotAfter.Add(v.MaxLife))) {
			return cert
		}
	}
	if !wellFormedKid(kid) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	if cert, err := v.Refresh(ctx, peer, current); err == nil && cert != nil && kidOf(cert) == kid {
		return cert
	}
	return nil
}

func wellFormedKid(kid string) bool {
	_, err := gateway.ParseFingerprint("SHA256:" + kid)
	return err == nil && len(kid) == 64
}

// subjectLength is that of a gateway.LinkSubject: SHA-256 in base64.
const subjectLength = 43

// judge says what is wrong with the claims that a peer has signed. The page has
// to be the same, as the link has it or as the rules write it.
func (v *Verifier) judge(c claims, peer *gateway.Peer, wantsurl string, page gateway.Target) gateway.Rule {
	switch {
	case c.ExpiresAt == nil || c.NotBefore != nil || len(c.Audience) != 1 || !WellFormedID(c.ID), c.Subject != "" && len(c.Subject) != subjectLength:
		return gateway.RuleSignatureMalformed
	case !named(c.Issuer, peer.Names()) || !named(c.Audience[0], append([]gateway.Wwwroot{v.Site}, v.Aliases...)):
		return gateway.RuleSignatureOther
	case c.Wantsurl != wantsurl && c.Wantsurl != page.String():
		return gateway.RuleSignatureOther
	case !v.now().Before(c.ExpiresAt.Time):
		return gateway.RuleSignatureExpired
	case c.ExpiresAt.Time.After(v.now().Add(v.MaxLife)):
		return gateway.RuleSignatureTooLong
	}
	return gateway.RuleOK
}

// named reports whether a claim is one of these names, letter by letter.
func named(claim string, names []gateway.Wwwroot) bool {
	for _, name := range names {
		if claim == name.String() {
			return true
		}
	}
	return false
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}
