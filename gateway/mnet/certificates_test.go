package mnet

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"jumpgate/gateway"
)

func TestTheFormerCertificatesOfAPeerAreKnown(t *testing.T) {
	a, b := parties(t)
	pins := a.caller.Pins
	want := []gateway.Fingerprint{b.Keys()[0].Certificate().Fingerprint()}
	check := func(when string) {
		t.Helper()
		certs, err := pins.Certificates(t.Context(), b.peer)
		if err != nil || len(certs) != len(want) {
			t.Fatalf("%s: %d certificates, want %d: %v", when, len(certs), len(want), err)
		}
		for i, cert := range certs {
			if cert.Fingerprint() != want[i] {
				t.Errorf("%s: certificate %d is another one", when, i)
			}
		}
	}
	check("at first")
	for range 2 {
		want = append(want, b.rotate(t).Certificate().Fingerprint())
		mustCall(t, a, b)
		check("after a change")
	}
	pins.pins = nil
	check("after a restart")
	// What came before the certificate that an administrator pins is nobody's
	// word: anybody can write a chain that ends there.
	b.peer.Certificate = b.Keys()[0].Certificate()
	want = want[2:]
	check("pinned anew")
}

func TestCertificatesAreNotFetchedToLookAtALink(t *testing.T) {
	p, fetched, _ := newPins(t)
	peer := spPeer(t)
	if certs, err := p.Certificates(t.Context(), peer); err == nil || fetched.Load() != 0 {
		t.Errorf("%d certificates, %d fetched", len(certs), fetched.Load())
	}
	if _, err := p.Certificate(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	if certs, err := p.Certificates(t.Context(), peer); err != nil || len(certs) != 1 || fetched.Load() != 1 {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	peer.Fingerprint = recordedKey(t, "sp2").Certificate().Fingerprint()
	if certs, err := p.Certificates(t.Context(), peer); err == nil {
		t.Errorf("%d certificates that contradict the configuration", len(certs))
	}
}

func TestAKeySignsWhatIsNotMNet(t *testing.T) {
	key := recordedKey(t, "sp")
	signature, err := key.SignSHA256([]byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))
	if err := rsa.VerifyPKCS1v15(key.Certificate().PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	if (&Signed{Payload: []byte("message"), Signature: signature}).Verify(key.Certificate()) == nil {
		t.Error("it is good in MNet too")
	}
}
