package pubsub

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"time"
)

// Tokens signs identity tokens as Google does, and serves the keys to check them with: GET. A POST makes a new key, which
// signs from then on; DELETE withdraws those before it.
type Tokens struct {
	mutex sync.Mutex
	keys  []signingKey
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func newTokens() *Tokens {
	tokens := &Tokens{}
	tokens.rotate()
	return tokens
}

func (t *Tokens) rotate() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // the machine has no random numbers
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.keys = append(t.keys, signingKey{id: fmt.Sprintf("key-%d", time.Now().UnixNano()), key: key})
}

// sign makes a token of an account for an audience.
func (t *Tokens) sign(account, audience string, now time.Time) (string, error) {
	t.mutex.Lock()
	newest := t.keys[len(t.keys)-1]
	t.mutex.Unlock()
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": newest.id})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "https://accounts.google.com", "aud": audience, "azp": "113774264463038321964", "sub": "113774264463038321964",
		"email": account, "email_verified": true, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(claims)
	hash := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, newest.key, crypto.SHA256, hash[:])
	return signed + "." + encode(signature), err
}

// ServeHTTP serves the public keys as a JSON Web Key Set, and changes them.
func (t *Tokens) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	if request.Method == http.MethodPost {
		t.rotate()
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if request.Method == http.MethodDelete {
		t.keys = t.keys[len(t.keys)-1:]
	}
	keys := []map[string]string{}
	for _, one := range t.keys {
		encode := base64.RawURLEncoding.EncodeToString
		exponent := big.NewInt(int64(one.key.E)).Bytes()
		keys = append(keys, map[string]string{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": one.id, "n": encode(one.key.N.Bytes()), "e": encode(exponent),
		})
	}
	writer.Header().Set("content-type", "application/json")
	writer.Header().Set("cache-control", "public, max-age=3600")
	_ = json.NewEncoder(writer).Encode(map[string]any{"keys": keys})
}

// Token gives a test a token of the account and for the audience that its query names.
func (t *Tokens) Token(writer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	token, err := t.sign(query.Get("email"), query.Get("audience"), time.Now())
	if err != nil {
		http.Error(writer, err.Error(), http.StatusInternalServerError)
		return
	}
	writer.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(writer).Encode(map[string]string{"token": token})
}
