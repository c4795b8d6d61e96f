"""Drop-ins for the quantizers people already use, one module a project; see docs/migration.md.

letter                    LETTER's RQ-VAE
lc_rec                    LC-Rec's and MiniOneRec's RQ-VAE
vector_quantize_pytorch   ResidualVQ
faiss                     codebooks and codes of faiss.ResidualQuantizer
rqvae_recommender, grid   checkpoints, and outputs as those projects lay them out
sklearn                   residual k-means as a scikit-learn transformer

Nothing is imported before its module is; only `faiss` and `sklearn` need the package they are for.
"""
