"""Drop-ins for the quantizers people already use, one module a project; see docs/migration.

letter                    LETTER's RQ-VAE
lc_rec                    LC-Rec's and MiniOneRec's RQ-VAE
vector_quantize_pytorch   ResidualVQ and GroupedResidualVQ
k_means_constrained       KMeansConstrained
fastkmeans                FastKMeans
faiss                     codebooks and codes of faiss.ResidualQuantizer
rqvae_recommender, grid   checkpoints, and outputs as those projects lay them out
sklearn                   residual k-means as a scikit-learn transformer

Nothing is imported before its module is. `faiss` needs the package it is for; `sklearn` and
`k_means_constrained` need scikit-learn.
"""
