package mnet

import (
	"context"
	"net/netip"

	"jumpgate/gateway"
)

// KeyswapRequest is what a caller of system/keyswap says about itself. Anybody
// can say anything: trust begins when the site itself hands out the same
// certificate.
type KeyswapRequest struct {
	Wwwroot     gateway.Wwwroot
	Application gateway.Application  // a guess by the form of the call
	Certificate *gateway.Certificate // which names the wwwroot
	Addr        netip.Addr           // who called
}

// maxSwapPEM bounds the certificate of a KeyswapRequest, in bytes.
const maxSwapPEM = 8 << 10

// keyswap tells our certificate, whatever the caller says about itself.
func (s *Server) keyswap(ctx context.Context, c *Call) (Value, error) {
	if s.Keyswapped != nil && s.budget.allowSwap(c.Addr, s.Now()) {
		if request, ok := keyswapRequest(c); ok {
			s.Keyswapped(ctx, request)
		}
	}
	return s.Keys()[0].Certificate().PEM(), nil
}

// keyswapRequest reads the parameters: wwwroot, certificate and, from a Moodle
// but not from Mahara, a third one (section 5.1). A wwwroot in another spelling
// than ours would not be known again in messages.
func keyswapRequest(c *Call) (KeyswapRequest, bool) {
	none := KeyswapRequest{}
	wwwroot, err := gateway.ParseWwwroot(c.Param(0))
	if err != nil || wwwroot.String() != c.Param(0) || len(c.Param(1)) > maxSwapPEM {
		return none, false
	}
	cert, err := parseCertificateOf(&gateway.Peer{Wwwroot: wwwroot}, []byte(c.Param(1)))
	if err != nil {
		return none, false
	}
	application := gateway.Moodle
	if len(c.Params) == 2 {
		application = gateway.Mahara
	}
	return KeyswapRequest{Wwwroot: wwwroot, Application: application, Certificate: cert, Addr: c.Addr}, true
}
